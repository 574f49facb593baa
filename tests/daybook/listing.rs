//! Pages of bookings in a window of time: an index finds them, and it must find the same as looking at each.

use daybook::tenancy::{Access, TenantTx};
use daybook_domain::{BookingId, booking::BookingCommand};
use daybook_projections::bookings::{self, BookingFilter};
use uuid::Uuid;

use crate::support::site::{Dice, Site, day};

#[tokio::test]
async fn a_window_of_time_lists_what_overlaps_it_however_long_that_is() {
    let site = Site::open().await;
    let pool = site.resource(200).await;
    let (offering, other) = (site.offering(&[pool]).await, site.offering(&[pool]).await);
    let mut dice = Dice::from_env("a_window_of_time_lists_what_overlaps_it_however_long_that_is");
    let lengths = [1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 90];
    for n in 0..110 {
        let offering = if n % 3 == 0 { other } else { offering };
        let length = lengths[n % lengths.len()];
        let committed = site.run(site.book(offering, 100 + dice.below(60), length)).await.unwrap();
        if n % 4 == 0 {
            let id = BookingId(committed.changed[0].id);
            let cancel = BookingCommand::Cancel { waive_fee: false };
            site.run(daybook::eventstore::Command::to(id, cancel)).await.unwrap();
        }
    }

    let mut tx = TenantTx::begin(site.store.database().app(), &site.schema, Access::Read).await.unwrap();
    let all = bookings::list(&mut tx, &BookingFilter::default(), None, 1_000).await.unwrap();
    assert_eq!(all.len(), 110);
    let midnight = |n: u64| day(n).and_hms_opt(0, 0, 0).unwrap().and_utc();
    for _ in 0..80 {
        let from = midnight(80 + dice.below(150));
        let to = from + chrono::TimeDelta::hours(i64::try_from(1 + dice.below(24 * 92)).unwrap());
        let filter = BookingFilter {
            from: Some(from),
            to: Some(to),
            status: (dice.below(3) == 0).then(|| "confirmed".to_owned()),
            offering_id: (dice.below(3) == 0).then_some(offering.0),
            ..BookingFilter::default()
        };
        let expected: Vec<Uuid> = all
            .iter()
            .filter(|row| row.starts_at < to && row.ends_at > from)
            .filter(|row| filter.status.as_ref().is_none_or(|status| row.status == *status))
            .filter(|row| filter.offering_id.is_none_or(|offering| row.offering_id == offering))
            .map(|row| row.id)
            .collect();
        let mut found = Vec::new();
        loop {
            let page = bookings::list(&mut tx, &filter, found.last().copied(), 7).await.unwrap();
            found.extend(page.iter().map(|row| row.id));
            if page.len() < 7 {
                break;
            }
        }
        assert_eq!(found, expected, "{filter:?}");
    }
}
