//! RoboCache: raw robot recordings onto one exact time grid, ready to train on.
//!
//! `preprocess` is a straight walk through the modules below, in this order: what was typed ([`config`]) becomes what is wanted
//! ([`settings`]); the input is listed ([`source`]); one episode of it settles the schema ([`recipe`]) and with it the plan
//! ([`plan`]); every shard of the plan is read, checked and aligned
//! ([`place`], [`align`]) and staged ([`pipeline`]); then all of it is published at
//! once ([`commit`]).

/// Prints a line to stdout. A reader that has gone (`… | head`) is no reason to fail.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod align;
mod commit;
mod config;
mod demo;
mod draft;
mod error;
mod inspect;
mod map;
mod picture;
mod pipeline;
mod place;
mod plan;
mod preprocess;
mod recipe;
mod settings;
mod source;
mod units;
mod verify;

use std::process::ExitCode;

use base::exit::Exit;
use clap::Parser;
use clap::error::ErrorKind;

use config::{Cli, Command};
use error::Error;

fn main() -> ExitCode {
    let expanded = match base::config::expand(std::env::args_os()) {
        Ok(expanded) => expanded,
        Err(error) => return fail(&error.into()),
    };
    let cli = match Cli::try_parse_from(&expanded.args) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe is no reason to fail.
            let _ = error.print();
            return if asked { Exit::Done } else { Exit::Invalid }.into();
        }
    };
    match run(cli.command, expanded.tables) {
        Ok(exit) => exit.into(),
        Err(error) => fail(&error),
    }
}

fn run(command: Command, tables: toml::Table) -> Result<Exit, Error> {
    match command {
        Command::Preprocess(args) => preprocess::preprocess(&args, tables),
        Command::Plan(args) => preprocess::plan(&args, tables),
        Command::Inspect(args) => inspect::inspect(&args, tables),
        Command::Verify(args) => verify::verify(&args),
        Command::Demo(args) => demo::demo(&args),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    let exit = error.exit();
    if exit != Exit::Terminated && exit != Exit::Interrupted {
        base::pod::termination_message(&error.to_string());
    }
    exit.into()
}
