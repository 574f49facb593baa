//! A customer: a person. Everything about them is [`Personal`].

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    CustomerId, Decider, DomainError, Event, Personal, PersonalVisitor,
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
}

impl Default for Customer {
    fn default() -> Self {
        Self { id: None, name: Personal::Sealed, email: None, phone: None, archived: false }
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
        ("customer.carried_over", 1),
    ];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "customer.registered",
            Self::Updated { .. } => "customer.updated",
            Self::Archived { .. } => "customer.archived",
            Self::CarriedOver(_) => "customer.carried_over",
        }
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        let (customer_id, name, email, phone) = match self {
            Self::Registered { customer_id, name, email, phone } => (customer_id, Some(name), email, phone),
            Self::Updated { customer_id, name, email, phone, .. } => {
                (customer_id, name.as_mut(), email, phone)
            }
            Self::Archived { .. } => return,
            Self::CarriedOver(carried) => return carried.state.visit_personal(visit),
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
            CustomerCommand::Update { .. } | CustomerCommand::Archive if self.id.is_none() => {
                Err(DomainError::not_found(Self::TYPE))
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
            CustomerEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl Customer {
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

impl_cqrs_aggregate!(Customer, CustomerEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn context() -> CustomerContext {
        CustomerContext { now: DateTime::UNIX_EPOCH, id: CustomerId::default(), live_bookings: 0 }
    }

    fn name(text: &str) -> Name {
        Name::new(text, "/name").unwrap()
    }

    fn email(text: &str) -> Email {
        Email::new(text, "/email").unwrap()
    }

    fn registered() -> CustomerEvent {
        CustomerEvent::Registered {
            customer_id: CustomerId::default(),
            name: Personal::new(name("Ada Canary")),
            email: Some(Personal::new(email("ada@canary.example"))),
            phone: None,
        }
    }

    #[test]
    fn nothing_personal_is_in_a_payload() {
        let payload = serde_json::to_string(&registered()).unwrap();
        assert!(!payload.contains("Ada") && !payload.contains("canary.example"), "{payload}");
        assert!(!format!("{:?}", registered()).contains("Ada"));
    }

    #[test]
    fn personal_fields_come_back_by_name() {
        let (mut event, mut seen) = (registered(), Vec::new());
        event.visit_personal(&mut |field, subject, slot| seen.push((field, subject, slot.value())));
        let subject = CustomerId::default().into();
        assert_eq!(
            seen,
            [
                ("name", subject, Some("Ada Canary".into())),
                ("email", subject, Some("ada@canary.example".into()))
            ]
        );
        let payload = serde_json::to_value(&event).unwrap();
        let mut read: CustomerEvent = serde_json::from_value(payload).unwrap();
        read.visit_personal(&mut |field, _, slot| {
            let value = seen.iter().find(|s| s.0 == field).unwrap().2.clone();
            slot.restore(value).unwrap();
        });
        assert_eq!(read, registered());
    }

    #[test]
    fn an_update_holds_only_what_changed() {
        TestFramework::<Customer>::with(context())
            .given(vec![registered()])
            .when(CustomerCommand::Update { name: Some(name("Ada Canary")), email: Some(None), phone: None })
            .then_expect_events(vec![CustomerEvent::Updated {
                customer_id: CustomerId::default(),
                name: None,
                email: None,
                phone: None,
                removed: vec![Contact::Email],
            }]);
        TestFramework::<Customer>::with(context())
            .given(vec![registered()])
            .when(CustomerCommand::Update {
                name: None,
                email: Some(Some(email("ada@canary.example"))),
                phone: Some(None),
            })
            .then_expect_events(vec![]);
    }

    #[test]
    fn a_customer_with_live_bookings_is_not_archived() {
        TestFramework::<Customer>::with(CustomerContext { live_bookings: 1, ..context() })
            .given(vec![registered()])
            .when(CustomerCommand::Archive)
            .then_expect_error(DomainError::wrong_state(
                "booked",
                "the customer has bookings that are not over",
            ));
    }
}
