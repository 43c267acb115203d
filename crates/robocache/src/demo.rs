//! x
use crate::{config::*, error::Result};
use base::exit::Exit;
pub(crate) fn demo(_a: &DemoArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
