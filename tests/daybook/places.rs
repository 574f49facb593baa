//! What availability is worked out from: asked of one resource it is the same as among all of its offering.

use chrono::{DateTime, NaiveTime, Utc};
use daybook::tenancy::{Access, TenantTx};
use daybook_domain::{
    BookingId, OfferingId, ResourceId,
    offering::{OfferingMode, OfferingTerms, PricePer},
};
use daybook_projections::claims::{self, Asked, Places, Reach};

use crate::support::site::{Site, day, stay_terms};

async fn places(site: &Site, asked: Asked, dates: (DateTime<Utc>, DateTime<Utc>), reach: Reach) -> Places {
    let mut tx =
        TenantTx::begin(site.store.database().app(), &site.schema, Access::ReadConsistent).await.unwrap();
    claims::places(&mut tx, asked, dates, reach).await.unwrap().unwrap()
}

/// The bookings that are known of a resource, in order.
fn known(
    places: &Places,
    resource: ResourceId,
) -> Vec<(BookingId, DateTime<Utc>, DateTime<Utc>, Option<u32>)> {
    let candidate = places.candidates.iter().find(|candidate| candidate.id() == resource).unwrap();
    let mut known: Vec<_> = candidate
        .occupancy
        .iter()
        .map(|claim| (claim.booking_id, claim.during.start(), claim.during.end(), claim.unit))
        .collect();
    known.sort();
    known
}

#[tokio::test]
async fn one_resource_of_an_offering_comes_with_the_same_claims_as_all_of_them() {
    let site = Site::open().await;
    let (pool, other) = (site.resource(60).await, site.resource(1).await);
    let stay = site.offering(&[pool]).await;
    for from in 0..40 {
        site.run(site.book(stay, from, 1 + from % 4)).await.unwrap();
    }
    let at = |n| day(n).and_time(NaiveTime::MIN).and_utc();
    let dates = (at(18), at(21));
    let mut counts = Vec::new();
    for (mode, before, after) in [
        (OfferingMode::Nights, 0, 0),
        (OfferingMode::Nights, 90, 0),
        (OfferingMode::Nights, 3 * 1_440, 0),
        (OfferingMode::Nights, 0, 4 * 1_440 + 1),
        (OfferingMode::Slot, 0, 0),
        (OfferingMode::Slot, 10_080, 10_080),
    ] {
        let terms = OfferingTerms {
            mode,
            buffer_before_minutes: before,
            buffer_after_minutes: after,
            price_per: if mode == OfferingMode::Slot { PricePer::Booking } else { PricePer::Night },
            ..stay_terms(&[other, pool])
        };
        let offering: OfferingId = site.offering_of(terms).await;
        for reach in [Reach::Dates, Reach::Moves] {
            let among = places(&site, Asked::Offering(offering, None), dates, reach).await;
            let alone = places(&site, Asked::Offering(offering, Some(pool)), dates, reach).await;
            assert_eq!(alone.candidates.len(), 1);
            let mut expected = among.offering.clone().unwrap();
            expected.terms.resource_ids = vec![pool];
            assert_eq!(alone.offering, Some(expected));
            assert_eq!(known(&alone, pool), known(&among, pool), "{mode:?} {before} {after} {reach:?}");
            counts.push(known(&alone, pool).len());
            // One without bookings.
            let alone = places(&site, Asked::Offering(offering, Some(other)), dates, reach).await;
            assert_eq!(known(&alone, other), []);
        }
    }
    // Buffers, slots and moves each look further.
    let [nights, moves, _, _, before, _, after, _, slots, ..] = counts[..] else { panic!("{counts:?}") };
    assert!(nights < before && nights < after && before < slots && slots == moves, "{counts:?}");
    // By nights, without an offering.
    let stay = places(&site, Asked::Offering(stay, Some(pool)), dates, Reach::Dates).await;
    let bare = places(&site, Asked::Resource(pool), dates, Reach::Dates).await;
    assert_eq!(known(&bare, pool), known(&stay, pool));
    assert!(bare.offering.is_none());
    // A resource that is not the offering's.
    let elsewhere = site.resource(1).await;
    let offering = site.offering(&[other]).await;
    let none = places(&site, Asked::Offering(offering, Some(elsewhere)), dates, Reach::Dates).await;
    assert!(none.candidates.is_empty() && none.offering.is_some());
}
