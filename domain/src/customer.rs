//! A customer: a person. Everything about them is [`Personal`].

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    CustomerId, Decider, DomainError, Event, Personal, PersonalVisitor, SubjectId,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    text::{Email, Name, Phone},
};

/// The state of a customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    /// Their id, once they were registered.
    pub id: Option<CustomerId>,
    /// Their name.
    pub name: Personal<Name>,
    /// Their e-mail address.
    pub email: Option<Personal<Email>>,
    /// Their telephone number.
    pub phone: Option<Personal<Phone>>,
    /// Archived customers take no new bookings.
    pub archived: bool,
    /// How far their erasure has come, once it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erasure: Option<Erasure>,
}

/// The most subjects that one event names: it has to fit into a leaf, and anybody can ask something under somebody's address.
const SUBJECTS: usize = 1_000;

/// How far an erasure has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When it was done: from then on nobody can tell who they were.
    pub erased_at: Option<DateTime<Utc>>,
}

impl Default for Customer {
    fn default() -> Self {
        Self { id: None, name: Personal::Sealed, email: None, phone: None, archived: false, erasure: None }
    }
}

impl Customer {
    /// Whether they can book. Who is to be erased cannot: there would be no end of it.
    ///
    /// # Errors
    /// `WrongState` that says why not.
    pub fn can_book(&self) -> Result<(), DomainError> {
        if self.erasure.is_some() {
            return Err(self.erasing());
        }
        if self.archived {
            return Err(DomainError::wrong_state("archived", "the customer takes no new bookings"));
        }
        Ok(())
    }

    /// Whether who they were is gone.
    pub fn is_erased(&self) -> bool {
        self.erasure.is_some_and(|erasure| erasure.erased_at.is_some())
    }

    fn erasing(&self) -> DomainError {
        if self.is_erased() {
            DomainError::wrong_state("erased", "this person's data was erased")
        } else {
            DomainError::wrong_state("erasure_requested", "this person's data is to be erased")
        }
    }
}

/// What can be asked of a customer's record.
#[derive(Clone, Debug)]
pub enum CustomerCommand {
    /// Register them.
    Register {
        /// Their name.
        name: Name,
        /// Their e-mail address.
        email: Option<Email>,
        /// Their telephone number.
        phone: Option<Phone>,
    },
    /// Change what is given; an inner `None` removes it.
    Update {
        /// A new name.
        name: Option<Name>,
        /// A new e-mail address, or none.
        email: Option<Option<Email>>,
        /// A new telephone number, or none.
        phone: Option<Option<Phone>>,
    },
    /// Take no new bookings.
    Archive,
    /// Forget who they are. Why is in what the command comes with.
    RequestErasure,
    /// Do what was asked for, unless a legal hold stands against it: then nothing happens.
    CompleteErasure,
}

/// What can have happened to a customer's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum CustomerEvent {
    /// They were registered.
    #[serde(rename = "customer.registered")]
    Registered {
        /// Their id.
        customer_id: CustomerId,
        /// Their name.
        name: Personal<Name>,
        /// Their e-mail address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        email: Option<Personal<Email>>,
        /// Their telephone number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
    },
    /// What is given was changed.
    #[serde(rename = "customer.updated")]
    Updated {
        /// Their id.
        customer_id: CustomerId,
        /// The new name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Personal<Name>>,
        /// The new e-mail address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        email: Option<Personal<Email>>,
        /// The new telephone number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
        /// Contacts that were removed (`email`, `phone`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        removed: Vec<Contact>,
    },
    /// They take no new bookings.
    #[serde(rename = "customer.archived")]
    Archived {
        /// Their id.
        customer_id: CustomerId,
    },
    /// It was asked to forget who they are.
    #[serde(rename = "customer.erasure_requested")]
    ErasureRequested {
        /// Their id.
        customer_id: CustomerId,
        /// When.
        requested_at: DateTime<Utc>,
    },
    /// Who they were is forgotten: the keys are destroyed that their personal values were sealed with. More than one where one
    /// has no room for everybody whose keys these are, all in one command.
    #[serde(rename = "customer.erased")]
    Erased {
        /// Their id.
        customer_id: CustomerId,
        /// When.
        erased_at: DateTime<Utc>,
        /// Whose keys are destroyed: theirs, and those of their accounts and of what they asked before they were a customer.
        subjects: Vec<SubjectId>,
    },
    /// Its state, when what was before was pruned.
    #[serde(rename = "customer.carried_over")]
    CarriedOver(Box<CarriedOver<Customer>>),
}

/// A contact that can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contact {
    /// The e-mail address.
    Email,
    /// The telephone number.
    Phone,
}

impl Event for CustomerEvent {
    const TYPES: &'static [(&'static str, u16)] = &[
        ("customer.registered", 1),
        ("customer.updated", 1),
        ("customer.archived", 1),
        ("customer.erasure_requested", 1),
        ("customer.erased", 1),
        ("customer.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "customer.registered",
            Self::Updated { .. } => "customer.updated",
            Self::Archived { .. } => "customer.archived",
            Self::ErasureRequested { .. } => "customer.erasure_requested",
            Self::Erased { .. } => "customer.erased",
            Self::CarriedOver(_) => "customer.carried_over",
        }
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        let (customer_id, name, email, phone) = match self {
            Self::Registered { customer_id, name, email, phone } => (customer_id, Some(name), email, phone),
            Self::Updated { customer_id, name, email, phone, .. } => {
                (customer_id, name.as_mut(), email, phone)
            }
            Self::Archived { .. } | Self::ErasureRequested { .. } | Self::Erased { .. } => return,
            Self::CarriedOver(carried) => {
                carried.past.visit_personal(carried.state.id.map(SubjectId::from), visit);
                return carried.state.visit_personal(visit);
            }
        };
        let subject = (*customer_id).into();
        if let Some(name) = name {
            visit("name", subject, name);
        }
        if let Some(email) = email {
            visit("email", subject, email);
        }
        if let Some(phone) = phone {
            visit("phone", subject, phone);
        }
    }
}

/// What a decision about a customer needs to know.
#[derive(Clone, Debug)]
pub struct CustomerContext {
    /// The time of the decision.
    pub now: DateTime<Utc>,
    /// The customer's id.
    pub id: CustomerId,
    /// Their bookings that are not over.
    pub live_bookings: u32,
    /// Why, in the words of whoever asks.
    pub reason: Option<String>,
    /// Whether an account that names them is not a customer's any more: whose it is works for the house.
    pub works_here: bool,
    /// Whether a legal hold stands against their erasure.
    pub held: bool,
    /// Whose keys seal what is known of them, besides their own. Looked for only where an erasure is to be completed.
    pub subjects: Vec<SubjectId>,
}

impl Decider for Customer {
    const TYPE: &'static str = "customer";
    type Command = CustomerCommand;
    type Event = CustomerEvent;
    type Context = CustomerContext;

    fn decide(
        &self,
        command: &CustomerCommand,
        context: &CustomerContext,
    ) -> Result<Vec<CustomerEvent>, DomainError> {
        let customer_id = context.id;
        match command {
            CustomerCommand::Register { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            CustomerCommand::Register { name, email, phone } => Ok(vec![CustomerEvent::Registered {
                customer_id,
                name: Personal::new(name.clone()),
                email: email.clone().map(Personal::new),
                phone: phone.clone().map(Personal::new),
            }]),
            CustomerCommand::Update { .. }
            | CustomerCommand::Archive
            | CustomerCommand::RequestErasure
            | CustomerCommand::CompleteErasure
                if self.id.is_none() =>
            {
                Err(DomainError::not_found(Self::TYPE))
            }
            CustomerCommand::RequestErasure => self.request_erasure(context),
            CustomerCommand::CompleteErasure => self.complete_erasure(context),
            CustomerCommand::Update { .. } | CustomerCommand::Archive if self.erasure.is_some() => {
                Err(self.erasing())
            }
            CustomerCommand::Update { .. } | CustomerCommand::Archive if self.archived => {
                Err(DomainError::wrong_state("archived", "the customer is archived"))
            }
            CustomerCommand::Update { name, email, phone } => {
                Ok(self.decide_update(customer_id, name.as_ref(), email.as_ref(), phone.as_ref()))
            }
            CustomerCommand::Archive if context.live_bookings > 0 => {
                Err(DomainError::wrong_state("booked", "the customer has bookings that are not over"))
            }
            CustomerCommand::Archive => Ok(vec![CustomerEvent::Archived { customer_id }]),
        }
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        let Some(id) = self.id else { return };
        visit("name", id.into(), &mut self.name);
        if let Some(email) = &mut self.email {
            visit("email", id.into(), email);
        }
        if let Some(phone) = &mut self.phone {
            visit("phone", id.into(), phone);
        }
    }

    fn apply(&mut self, event: &CustomerEvent) {
        match event {
            CustomerEvent::Registered { customer_id, name, email, phone } => {
                *self = Self {
                    id: Some(*customer_id),
                    name: name.clone(),
                    email: email.clone(),
                    phone: phone.clone(),
                    archived: false,
                    erasure: None,
                };
            }
            CustomerEvent::Updated { name, email, phone, removed, .. } => {
                if let Some(name) = name {
                    self.name = name.clone();
                }
                if email.is_some() || removed.contains(&Contact::Email) {
                    self.email = email.clone();
                }
                if phone.is_some() || removed.contains(&Contact::Phone) {
                    self.phone = phone.clone();
                }
            }
            CustomerEvent::Archived { .. } => self.archived = true,
            CustomerEvent::ErasureRequested { requested_at, .. } => {
                self.erasure = Some(Erasure { requested_at: *requested_at, erased_at: None });
            }
            CustomerEvent::Erased { erased_at, .. } => {
                let requested_at = self.erasure.map_or(*erased_at, |erasure| erasure.requested_at);
                *self = Self {
                    id: self.id,
                    name: Personal::Erased,
                    email: None,
                    phone: None,
                    archived: true,
                    erasure: Some(Erasure { requested_at, erased_at: Some(*erased_at) }),
                };
            }
            CustomerEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl Customer {
    /// Asking again changes nothing: of many who ask at once each is told where it stands.
    fn request_erasure(&self, context: &CustomerContext) -> Result<Vec<CustomerEvent>, DomainError> {
        if self.erasure.is_some() {
            return Ok(Vec::new());
        }
        if context.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            return Err(DomainError::ReasonRequired);
        }
        may_be_erased(context)?;
        let customer_id = context.id;
        Ok(vec![CustomerEvent::ErasureRequested { customer_id, requested_at: context.now }])
    }

    fn complete_erasure(&self, context: &CustomerContext) -> Result<Vec<CustomerEvent>, DomainError> {
        match self.erasure {
            None => Err(DomainError::wrong_state("not_requested", "nobody asked for the erasure")),
            Some(Erasure { erased_at: Some(_), .. }) => Ok(Vec::new()),
            Some(Erasure { erased_at: None, .. }) if context.held => Ok(Vec::new()),
            Some(Erasure { erased_at: None, .. }) => {
                may_be_erased(context)?;
                let customer_id = context.id;
                let own = SubjectId::from(customer_id);
                let others = context.subjects.iter().copied().filter(|subject| *subject != own);
                let subjects: Vec<SubjectId> = std::iter::once(own).chain(others).collect();
                let erased_at = context.now;
                let part = |part: &[SubjectId]| CustomerEvent::Erased {
                    customer_id,
                    erased_at,
                    subjects: part.to_vec(),
                };
                Ok(subjects.chunks(SUBJECTS).map(part).collect())
            }
        }
    }

    fn decide_update(
        &self,
        customer_id: CustomerId,
        name: Option<&Name>,
        email: Option<&Option<Email>>,
        phone: Option<&Option<Phone>>,
    ) -> Vec<CustomerEvent> {
        let name = name.map(|name| Personal::new(name.clone())).filter(|name| *name != self.name);
        let mut removed = Vec::new();
        let email = match email {
            Some(None) if self.email.is_some() => {
                removed.push(Contact::Email);
                None
            }
            Some(Some(email)) => {
                Some(Personal::new(email.clone())).filter(|email| Some(email) != self.email.as_ref())
            }
            Some(None) | None => None,
        };
        let phone = match phone {
            Some(None) if self.phone.is_some() => {
                removed.push(Contact::Phone);
                None
            }
            Some(Some(phone)) => {
                Some(Personal::new(phone.clone())).filter(|phone| Some(phone) != self.phone.as_ref())
            }
            Some(None) | None => None,
        };
        if name.is_none() && email.is_none() && phone.is_none() && removed.is_empty() {
            return Vec::new();
        }
        vec![CustomerEvent::Updated { customer_id, name, email, phone, removed }]
    }
}

/// A house must know whom it expects; and who works for it is not erased as one of its guests.
fn may_be_erased(context: &CustomerContext) -> Result<(), DomainError> {
    if context.live_bookings > 0 {
        return Err(DomainError::wrong_state("booked", "the customer has bookings that are not over"));
    }
    if context.works_here {
        return Err(DomainError::wrong_state(
            "employed",
            "an account of the house names this customer: delete it first",
        ));
    }
    Ok(())
}

impl_cqrs_aggregate!(Customer, CustomerEvent);

#[cfg(test)]
mod tests;
