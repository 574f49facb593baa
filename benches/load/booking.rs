//! A booking to decide, with all that its decision needs to know.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, Utc};
use daybook_domain::{
    BookingId, CustomerId, DomainError, Money, Nights, Occupancy, OfferingId, ResourceId,
    booking::{BookingCommand, BookingContext, Candidate, RequestedTime},
    customer::Customer,
    offering::{Offering, OfferingTerms},
    resource::Resource,
};
use uuid::Uuid;

/// A booking of one night a month after `today`, of a free resource.
pub fn a_night(today: NaiveDate) -> Result<(BookingContext, BookingCommand), DomainError> {
    let nights = Nights::new(today + Days::new(30), today + Days::new(31))?;
    let (resource_id, offering_id) = (ResourceId(Uuid::now_v7()), OfferingId(Uuid::now_v7()));
    let customer_id = CustomerId(Uuid::now_v7());
    let resource = Resource { id: Some(resource_id), capacity: 1, ..Resource::default() };
    let terms = OfferingTerms {
        resource_ids: vec![resource_id],
        price: Money { amount: 12_500, ..Money::default() },
        ..OfferingTerms::default()
    };
    let context = BookingContext {
        now: DateTime::<Utc>::from_naive_utc_and_offset(today.into(), Utc),
        id: BookingId(Uuid::now_v7()),
        offering: Some(Arc::new(Offering { id: Some(offering_id), archived: false, terms })),
        candidates: vec![Candidate {
            resource: Arc::new(resource),
            schedule: None,
            occupancy: Arc::new(Occupancy::default()),
        }],
        customer: Some(Arc::new(Customer { id: Some(customer_id), ..Customer::default() })),
        reason: None,
        enforce_window: true,
    };
    let command = BookingCommand::Book {
        offering_id,
        resource_id: Some(resource_id),
        unit: None,
        customer_id,
        when: RequestedTime::Nights(nights),
        guests: 2,
        hold: false,
        notes: None,
        price_override: None,
    };
    Ok((context, command))
}
