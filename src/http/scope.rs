//! What a caller's scope leaves of things: their own, those of the resources assigned to them, or all of the tenant's.
//!
//! Lists are narrowed in SQL. What lies outside is not found, whoever else's it is.

use daybook_domain::{BookingId, CustomerId, booking::BookingCommand, permission::Scope};
use daybook_projections::{
    bookings::{self, BookingFilter, BookingRow},
    resources::ResourceFilter,
};
use uuid::Uuid;

use super::{
    context::CallContext,
    position::{self, MinPosition},
    problem::{Code, Problem, Result},
};
use crate::app::AppState;

/// The resources a caller is confined to.
pub fn resources(call: &CallContext) -> Option<Vec<Uuid>> {
    call.caller.assigned_resources().map(|assigned| assigned.iter().map(|resource| resource.0).collect())
}

/// Narrows a list of resources.
pub fn narrow_resources(call: &CallContext, filter: &mut ResourceFilter) {
    filter.among = resources(call);
}

/// Narrows a list of bookings.
pub fn narrow_bookings(call: &CallContext, filter: &mut BookingFilter) {
    filter.among = resources(call);
    if let Some(own) = call.caller.own_customer() {
        // Somebody else's bookings, asked for by name: there are none to see.
        if filter.customer_id.is_some_and(|asked| asked != own.0) {
            filter.among = Some(Vec::new());
        }
        filter.customer_id = Some(own.0);
    }
}

/// Whether a resource is within reach.
///
/// # Errors
/// `not_found` when it is not.
pub fn resource(call: &CallContext, id: Uuid) -> Result<()> {
    match call.caller.assigned_resources() {
        Some(assigned) if !assigned.iter().any(|resource| resource.0 == id) => Err(Problem::not_found()),
        _ => Ok(()),
    }
}

/// The account a caller is confined to, where they see what is their own: their account, or for a key nobody's.
pub fn own_user(call: &CallContext) -> Option<Uuid> {
    let user = call.caller.principal.account().map_or(Uuid::nil(), |user| user.0);
    (call.caller.scope == Scope::Own).then_some(user)
}

/// Whether a customer is within reach.
///
/// # Errors
/// `not_found` when they are not.
pub fn customer(call: &CallContext, id: Uuid) -> Result<()> {
    match call.caller.own_customer() {
        Some(own) if own.0 != id => Err(Problem::not_found()),
        _ => Ok(()),
    }
}

/// Whether a booking is within reach.
///
/// # Errors
/// `not_found` when it is not.
pub fn booking(call: &CallContext, row: &BookingRow) -> Result<()> {
    customer(call, row.customer_id)?;
    resource(call, row.resource_id)
}

/// The command a caller gives to a booking: as a guest, where they are confined to their own.
///
/// # Errors
/// `not_found` when the booking, or where it is to go, is out of reach.
pub async fn booking_command(
    state: &AppState,
    call: &CallContext,
    id: BookingId,
    command: BookingCommand,
) -> Result<BookingCommand> {
    if call.caller.scope >= Scope::Tenant {
        return Ok(command);
    }
    let mut tx = position::read(state, call, MinPosition(None)).await?;
    let row = bookings::get(&mut tx, id.0).await?.ok_or_else(Problem::not_found)?;
    tx.release();
    booking(call, &row)?;
    if let BookingCommand::Reassign { resource_id: Some(to), .. }
    | BookingCommand::Reschedule { resource_id: Some(to), .. } = &command
    {
        resource(call, to.0)?;
    }
    Ok(match call.caller.own_customer() {
        Some(_) => BookingCommand::ByGuest(Box::new(command)),
        None => command,
    })
}

/// The customer a new booking is for, where the caller is confined to their own.
///
/// # Errors
/// `forbidden` when it is for somebody else; a caller with resources assigned must name one of them.
pub fn new_booking(
    call: &CallContext,
    customer: Option<CustomerId>,
    registers: bool,
    resource_id: Option<Uuid>,
) -> Result<Option<CustomerId>> {
    if call.caller.scope == Scope::Assigned {
        match resource_id {
            Some(id) => resource(call, id)?,
            None => return Err(Problem::field("/resource_id", "required", "name one of your resources")),
        }
    }
    match call.caller.own_customer() {
        Some(own) if registers || customer.is_some_and(|customer| customer != own) => {
            Err(Problem::new(Code::Forbidden, "You book for yourself only."))
        }
        Some(own) => Ok(Some(own)),
        None => Ok(customer),
    }
}
