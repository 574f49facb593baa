//! `daybook audit bundle`.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{BufWriter, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use daybook_domain::{
    AuditExportId,
    audit_export::{ExportFilter, ExportFormat},
    registry::AggregateType,
};
use daybook_projections::Schema;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use uuid::Uuid;

use super::{ledger_of, private};
use crate::{
    bundle::export::{self as writing, Bundle},
    cli::{Runtime, runtime::cli_metadata, say},
    export::{self, Ask, Range},
    retention::Retention,
    tenancy::{Access, TenantTx},
};

#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Whose log.
    #[arg(long, value_name = "SLUG")]
    tenant: String,
    /// Where to. It is written beside, and moved there when it is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// From this position on [default: the first that the plan keeps].
    #[arg(long, value_name = "POSITION")]
    from: Option<i64>,
    /// Up to this position [default: the log's last].
    #[arg(long, value_name = "POSITION")]
    to: Option<i64>,
    /// Leave out all personal values: the leaves commit to them all the same.
    #[arg(long)]
    without_personal: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Writes a bundle. The plan's history counts here as well; that it has exports is not asked of the operator.
pub async fn run(runtime: &Runtime, args: &BundleArgs) -> anyhow::Result<()> {
    ensure!(args.from.is_none_or(|from| from > 0), "a position is 1 or more");
    let tenant = runtime.admin.find(&args.tenant).await?;
    let schema = Schema::tenant(tenant.id);
    let retention =
        Retention::of(runtime.store.database(), tenant.id).await?.context("the tenant is gone")?;
    let at = retention.now();
    let cut = retention.cut(at);
    let ask =
        Ask { after: args.from.map_or(0, |from| from - 1), until: args.to, filter: ExportFilter::default() };
    let mut tx = TenantTx::begin(runtime.store.database().app(), &schema, Access::Read).await?;
    let range = Range::of(&mut tx, &ask, cut).await?;
    tx.release();
    ensure!(args.from.is_none_or(|from| range.after == from - 1), "that is past what the plan keeps");
    ensure!(range.until > range.after, "there is nothing to show");

    let id = AuditExportId(Uuid::now_v7());
    let metadata = cli_metadata("audit");
    let filter = ExportFilter::default();
    export::start(&runtime.store, &schema, id, ExportFormat::Bundle, range, filter, metadata.clone()).await?;
    let disclose: BTreeSet<AggregateType> =
        if args.without_personal { BTreeSet::new() } else { AggregateType::ALL.iter().copied().collect() };
    let ask = writing::Ask { range, disclose, exported_by: metadata.actor.clone(), export_id: id, at };
    let ledger = ledger_of(runtime)?;
    let mut bundle = Bundle::new(&ledger, &schema, ask);

    let part = {
        let name = args.out.file_name().context("--out names a file")?.to_string_lossy();
        args.out.with_file_name(format!("{name}.{id}.part"))
    };
    let failed = || format!("write {}", part.display());
    let file = private(OpenOptions::new().create(true).truncate(true), &part).with_context(failed)?;
    let mut file = BufWriter::new(file);
    let bar = bar(&tenant.slug, range);
    let begun = Instant::now();
    let mut bytes = 0;
    loop {
        let written = match bundle.next().await {
            Ok(Some(written)) => written,
            Ok(None) => break,
            Err(error) => {
                // Nobody gets more of it, and nothing need be kept for whoever would.
                if error.is_final() {
                    let (rows, last) = bundle.progress();
                    export::end(&runtime.store, &schema, id, (rows, last, false), metadata).await?;
                }
                return Err(error.into());
            }
        };
        file.write_all(&written).with_context(failed)?;
        bytes += written.len();
        bar.set_position(bundle.progress().0);
    }
    let file = file.into_inner().map_err(|error| error.into_error()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    fs::rename(&part, &args.out).with_context(|| format!("move {} to its place", part.display()))?;
    bar.finish_and_clear();
    let (rows, last) = bundle.progress();
    export::end(&runtime.store, &schema, id, (rows, last, true), metadata).await?;

    let (from, to, seconds) = (range.after + 1, range.until, begun.elapsed().as_secs_f64());
    if args.json {
        say(json!({
            "tenant": tenant.slug, "export_id": id, "file": args.out, "from": from, "to": to, "rows": rows,
            "bytes": bytes, "seconds": seconds,
        }));
    } else {
        let file = args.out.display();
        say(format_args!(
            "{rows} events, positions {from} to {to}, in {file}, {bytes} bytes in {seconds:.1} s (export {id})"
        ));
    }
    Ok(())
}

fn bar(name: &str, range: Range) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(range.until - range.after).unwrap_or(0));
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
