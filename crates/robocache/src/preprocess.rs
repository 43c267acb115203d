//! `preprocess` and `plan`: from the command line to a committed dataset.

use std::sync::Arc;

use base::exit::Exit;
use base::pod;
use base::publish::Ledger;
use base::shutdown::Shutdown;
use base::store::{self, Store};
use base::telemetry::Progress;
use trajectory::read::ReadError;
use trajectory::write::{Format, Rate};

use crate::commit::{COMMIT, Commit, CountedFinding, MANIFEST, Manifest, SCRATCH, WORK, pretty};
use crate::config::{OnError, OnGap, PlanArgs, PreprocessArgs};
use crate::error::{Error, Result};
use crate::pipeline::FirstPass;
use crate::plan::Plan;
use crate::recipe::GAP_MASK;
use crate::settings::Settings;
use crate::source::Input;
use crate::units::{ByteSize, count};

const PLAN: &str = "plan.json";

/// Resamples the input and publishes the result.
pub(crate) fn preprocess(args: &PreprocessArgs, tables: toml::Table) -> Result<Exit> {
    let settings = Settings::new(args, tables)?;
    let manifest = run(args, &settings)?;
    for CountedFinding { episodes, finding } in
        manifest.findings.iter().filter(|counted| counted.episodes > 0)
    {
        eprintln!(
            "note [{}] {}: {} (in {episodes} episodes)",
            finding.code, finding.subject, finding.message
        );
    }
    let skipped = manifest.skipped.len();
    let mut summary = format!(
        "{}, {} rows at {} Hz in {}",
        count(manifest.episodes, "episode"),
        manifest.rows,
        manifest.recipe.rate,
        args.output.output_dir
    );
    if manifest.masked_rows > 0 {
        summary += &format!("; {} rows lie in gaps and are marked in `{GAP_MASK}`", manifest.masked_rows);
    }
    if skipped > 0 {
        summary += &format!("; {skipped} left out, see {MANIFEST}");
    }
    out!("{summary}");
    pod::termination_message(&summary);
    let expected = args.run.on_error == OnError::Skip || pod::in_pod();
    Ok(if skipped == 0 || expected { Exit::Done } else { Exit::DoneWithSkips })
}

/// Shows what `preprocess` would do.
pub(crate) fn plan(args: &PlanArgs, tables: toml::Table) -> Result<Exit> {
    let settings = Settings::new(&args.preprocess, tables)?;
    let input = Input::open(&settings.inputs, settings.read.clone())?;
    let plan = Plan::make(&input, &settings)?;
    if args.json {
        out!("{}", String::from_utf8_lossy(&pretty(&plan)).trim_end());
        return Ok(Exit::Done);
    }
    let bytes = ByteSize { bytes: plan.bytes() };
    out!(
        "{} recordings, {bytes}, in {} shards; job {}",
        input.recordings.len(),
        plan.job.shards.len(),
        &plan.fingerprint[..12]
    );
    out!("\n{} columns at {} Hz:", plan.job.schema.columns.len(), plan.job.recipe.rate);
    for column in &plan.job.recipe.columns {
        let parts: Vec<String> =
            column.parts.iter().map(|part| format!("{} ({})", part.feature, part.policy)).collect();
        out!(
            "  {:<32} {:<8} {:<14} {}",
            column.name,
            format!("{:?}", column.dtype).to_lowercase(),
            format!("{:?}", column.shape),
            parts.join(" + ")
        );
    }
    if plan.job.recipe.on_gap == OnGap::Mask {
        out!("  {GAP_MASK:<32} {:<8} {:<14} rows inside a gap", "bool", "[]");
    }
    for finding in &plan.findings {
        out!("\nnote [{}] {}: {}", finding.code, finding.subject, finding.message);
    }
    Ok(Exit::Done)
}

fn run(args: &PreprocessArgs, settings: &Settings) -> Result<Manifest> {
    let shutdown = Shutdown::install().map_err(|e| Error::invalid(format!("signal handlers: {e}")))?;
    if let Some(threads) = args.run.threads {
        // Fails only if a pool exists already, which then does as well.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build_global();
    }
    for note in &settings.notes {
        eprintln!("note: {note}");
    }
    check_places(&settings.inputs, &args.output.output_dir)?;
    let input = Input::open(&settings.inputs, settings.read.clone())?;
    let proposed = Plan::make(&input, settings)?;
    for finding in &proposed.findings {
        eprintln!("note [{}] {}: {}", finding.code, finding.subject, finding.message);
    }
    warn_untrainable(settings, &proposed);
    let store = store::open(&args.output.output_dir, SCRATCH)?;
    let ledger = Ledger::new(Arc::clone(&store), WORK, &pod::attempt_id());
    let plan = agree(&store, &ledger, proposed, args.output.overwrite)?;
    let (format, rate) = (settings.wishes.format, writer_rate(settings));
    let commit = Commit { plan: &plan, format, rate, store: &store, ledger: &ledger, shutdown: &shutdown };
    if let Some(manifest) = committed(&*store)? {
        commit.clean()?;
        eprintln!("nothing to do: {} holds the finished result of this job", args.output.output_dir);
        return Ok(manifest);
    }
    let progress = Progress::new("episodes", plan.bytes());
    let severity = if args.run.on_error == OnError::Fail { "error" } else { "skipped" };
    let report = |error: &ReadError| progress.say(&format!("{severity}: {error}"));
    let first_pass = FirstPass {
        input: &input,
        plan: &plan,
        format,
        rate,
        store: &*store,
        ledger: &ledger,
        progress: &progress,
        shutdown: &shutdown,
        batch_size: args.run.batch_size as usize,
        report: &report,
    };
    let outcomes = first_pass.run();
    eprintln!("{}", progress.finish());
    match outcomes.and_then(|outcomes| commit.run(outcomes)) {
        Ok(manifest) => Ok(manifest),
        // Whatever went wrong here, another process may have finished the job meanwhile and cleared what it no longer needs.
        Err(error) => committed(&*store)?.ok_or(error),
    }
}

/// An output inside an input would be read by the next run; an input twice would be every episode twice.
fn check_places(inputs: &[String], output: &str) -> Result<()> {
    for (number, input) in inputs.iter().enumerate() {
        if store::contains(input, output) {
            return Err(Error::invalid(format!(
                "the output {output} lies inside the input {input}, whose next run would read it; choose a folder outside"
            )));
        }
        if let Some(other) =
            inputs.iter().enumerate().find(|(n, other)| *n != number && store::contains(other, input))
        {
            return Err(Error::invalid(format!(
                "the input {input} is given twice: {} holds it already",
                other.1
            )));
        }
    }
    Ok(())
}

fn writer_rate(settings: &Settings) -> Rate {
    let (numerator, denominator) = settings.wishes.rate.as_fraction();
    Rate { numerator, denominator }
}

/// Settles on the plan: this run's, or the equal one that an earlier run of the same job left.
fn agree(store: &Arc<dyn Store>, ledger: &Ledger, proposed: Plan, overwrite: bool) -> Result<Plan> {
    let location = store.location();
    let Some(standing) = ledger.agreed(PLAN)? else {
        let foreign = store.list("")?.into_iter().find(|object| !object.key.starts_with(&format!("{WORK}/")));
        if let Some(object) = foreign {
            return Err(Error::invalid(format!(
                "{location} is not empty and not an output of this program ({} is there); choose a new folder",
                object.key
            )));
        }
        return publish(ledger, proposed);
    };
    let difference = match serde_json::from_slice::<Plan>(&standing) {
        Ok(standing) => match proposed.difference(&standing) {
            None => return Ok(standing),
            Some(difference) => difference,
        },
        Err(error) => format!("its plan cannot be read by this version ({error})"),
    };
    if !overwrite {
        return Err(Error::invalid(format!(
            "{location} belongs to another job: {difference}; choose a new folder, or replace it with --overwrite"
        )));
    }
    clear(&**store)?;
    publish(ledger, proposed)
}

fn publish(ledger: &Ledger, proposed: Plan) -> Result<Plan> {
    ledger.probe()?;
    let agreed = ledger.agree(PLAN, &pretty(&proposed))?;
    let agreed: Plan = serde_json::from_slice(&agreed)
        .map_err(|e| Error::invalid(format!("the plan that another worker published cannot be read: {e}")))?;
    match proposed.difference(&agreed) {
        None => Ok(agreed),
        Some(difference) => {
            Err(Error::invalid(format!("another worker began a different job here: {difference}")))
        }
    }
}

/// Empties an output of ours: the commit first, so that no loader sees a half of it; the plan last, so that a killed clearing
/// is still ours to repeat.
fn clear(store: &dyn Store) -> Result<()> {
    store.delete(COMMIT)?;
    let plan = format!("{WORK}/{PLAN}");
    // Markers before what they speak of: whatever a kill leaves is an interrupted job of the old plan.
    let markers = [format!("{WORK}/done/shard-"), format!("{WORK}/done/")];
    let rest = [format!("{WORK}/"), "data/".into(), "meta/".into()];
    for prefix in markers.iter().chain(&rest) {
        for object in store.list(prefix)?.into_iter().filter(|object| object.key != plan) {
            store.delete(&object.key)?;
        }
    }
    Ok(store.delete(&plan)?)
}

/// The manifest, if the dataset is whole.
fn committed(store: &dyn Store) -> Result<Option<Manifest>> {
    if store.get(COMMIT)?.is_none() {
        return Ok(None);
    }
    let bytes = store
        .get(MANIFEST)?
        .ok_or_else(|| Error::invalid(format!("{COMMIT} is there but {MANIFEST} is not")))?;
    let manifest = serde_json::from_slice(&bytes);
    manifest.map(Some).map_err(|e| Error::invalid(format!("{MANIFEST} cannot be read: {e}")))
}

/// A LeRobot dataset that no policy can train on is legal, but hardly meant.
fn warn_untrainable(settings: &Settings, plan: &Plan) {
    if settings.wishes.format != Format::LeRobot {
        return;
    }
    let has = |what: &str| {
        plan.job.schema.columns.iter().any(|c| c.name == what || c.name.starts_with(&format!("{what}.")))
    };
    let missing: Vec<&str> = ["observation", "action"].into_iter().filter(|what| !has(what)).collect();
    if !missing.is_empty() {
        eprintln!(
            "note: no column is called {}, which policies train on; draft a map with `robocache inspect {} --write-map map.toml` \
             and pass it as --map map.toml",
            missing.join(" or "),
            settings.inputs.join(" ")
        );
    }
}
