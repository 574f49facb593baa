//! A lead: somebody asks to be contacted, before there is a customer or a booking. Who they are and what they wrote is
//! [`Personal`].

use serde::{Deserialize, Serialize};

use crate::{
    Decider, DomainError, Event, LeadId, OfferingId, Personal, PersonalVisitor,
    carried::CarriedOver,
    impl_cqrs_aggregate,
    text::{Email, Name, Notes, Phone},
};

/// The state of a lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// Its id, once it was submitted.
    pub id: Option<LeadId>,
    /// Who asks.
    pub name: Personal<Name>,
    /// Their e-mail address.
    pub email: Option<Personal<Email>>,
    /// Their telephone number.
    pub phone: Option<Personal<Phone>>,
    /// What they wrote.
    pub message: Option<Personal<Notes>>,
    /// The offering they ask about.
    pub offering_id: Option<OfferingId>,
    /// Whether somebody has seen to it.
    pub handled: bool,
}

impl Default for Lead {
    fn default() -> Self {
        Self {
            id: None,
            name: Personal::Sealed,
            email: None,
            phone: None,
            message: None,
            offering_id: None,
            handled: false,
        }
    }
}

/// What can be asked of a lead.
#[derive(Clone, Debug)]
pub enum LeadCommand {
    /// Ask to be contacted, by e-mail or by telephone.
    Submit {
        /// Who asks.
        name: Name,
        /// Their e-mail address.
        email: Option<Email>,
        /// Their telephone number.
        phone: Option<Phone>,
        /// What they write.
        message: Option<Notes>,
        /// The offering they ask about.
        offering_id: Option<OfferingId>,
    },
    /// It has been seen to.
    Handle,
}

/// What can have happened to a lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LeadEvent {
    /// Somebody asked to be contacted.
    #[serde(rename = "lead.submitted")]
    Submitted {
        /// Its id.
        lead_id: LeadId,
        /// Who asks.
        name: Personal<Name>,
        /// Their e-mail address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        email: Option<Personal<Email>>,
        /// Their telephone number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phone: Option<Personal<Phone>>,
        /// What they wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<Personal<Notes>>,
        /// The offering they ask about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offering_id: Option<OfferingId>,
    },
    /// It has been seen to.
    #[serde(rename = "lead.handled")]
    Handled,
    /// Its state, when what was before was pruned.
    #[serde(rename = "lead.carried_over")]
    CarriedOver(Box<CarriedOver<Lead>>),
}

impl Event for LeadEvent {
    const TYPES: &'static [(&'static str, u16)] =
        &[("lead.submitted", 1), ("lead.handled", 1), ("lead.carried_over", 1)];

    fn type_name(&self) -> &'static str {
        match self {
            Self::Submitted { .. } => "lead.submitted",
            Self::Handled => "lead.handled",
            Self::CarriedOver(_) => "lead.carried_over",
        }
    }

    fn visit_personal(&mut self, visit: &mut PersonalVisitor<'_>) {
        let (lead_id, name, email, phone, message) = match self {
            Self::Submitted { lead_id, name, email, phone, message, .. } => {
                (lead_id, name, email, phone, message)
            }
            Self::Handled => return,
            Self::CarriedOver(carried) => return carried.state.visit_personal(visit),
        };
        let subject = (*lead_id).into();
        visit("name", subject, name);
        if let Some(email) = email {
            visit("email", subject, email);
        }
        if let Some(phone) = phone {
            visit("phone", subject, phone);
        }
        if let Some(message) = message {
            visit("message", subject, message);
        }
    }
}

/// What a decision about a lead needs to know.
#[derive(Clone, Debug)]
pub struct LeadContext {
    /// The lead's id.
    pub id: LeadId,
    /// Whether the offering asked about is one of the tenant's; archived or not, since a page may be older than that.
    /// True where none is named.
    pub offering_exists: bool,
}

impl Decider for Lead {
    const TYPE: &'static str = "lead";
    type Command = LeadCommand;
    type Event = LeadEvent;
    type Context = LeadContext;

    fn decide(&self, command: &LeadCommand, context: &LeadContext) -> Result<Vec<LeadEvent>, DomainError> {
        match command {
            LeadCommand::Submit { .. } if self.id.is_some() => {
                Err(DomainError::AlreadyExists { what: Self::TYPE.into() })
            }
            // Nobody could answer it.
            LeadCommand::Submit { email: None, phone: None, .. } => Err(DomainError::field(
                "/email",
                "contact_required",
                "an e-mail address or a telephone number is required",
            )),
            LeadCommand::Submit { .. } if !context.offering_exists => {
                Err(DomainError::field("/offering_id", "unknown_offering", "no such offering"))
            }
            LeadCommand::Submit { name, email, phone, message, offering_id } => {
                Ok(vec![LeadEvent::Submitted {
                    lead_id: context.id,
                    name: Personal::new(name.clone()),
                    email: email.clone().map(Personal::new),
                    phone: phone.clone().map(Personal::new),
                    message: message.clone().map(Personal::new),
                    offering_id: *offering_id,
                }])
            }
            LeadCommand::Handle if self.id.is_none() => Err(DomainError::not_found(Self::TYPE)),
            // Refused rather than passed over, so that of two colleagues the second does not call as well.
            LeadCommand::Handle if self.handled => {
                Err(DomainError::wrong_state("handled", "the lead has been handled"))
            }
            LeadCommand::Handle => Ok(vec![LeadEvent::Handled]),
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
        if let Some(message) = &mut self.message {
            visit("message", id.into(), message);
        }
    }

    fn apply(&mut self, event: &LeadEvent) {
        match event {
            LeadEvent::Submitted { lead_id, name, email, phone, message, offering_id } => {
                *self = Self {
                    id: Some(*lead_id),
                    name: name.clone(),
                    email: email.clone(),
                    phone: phone.clone(),
                    message: message.clone(),
                    offering_id: *offering_id,
                    handled: false,
                };
            }
            LeadEvent::Handled => self.handled = true,
            LeadEvent::CarriedOver(carried) => carried.fold_into(self),
        }
    }
}

impl_cqrs_aggregate!(Lead, LeadEvent);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn lead() -> TestFramework<Lead> {
        TestFramework::with(LeadContext { id: LeadId::default(), offering_exists: true })
    }

    fn submit(email: Option<&str>, phone: Option<&str>) -> LeadCommand {
        LeadCommand::Submit {
            name: Name::new("Ada Canary", "/name").unwrap(),
            email: email.map(|text| Email::new(text, "/email").unwrap()),
            phone: phone.map(|text| Phone::new(text, "/phone").unwrap()),
            message: Some(Notes::new("Is the canary free?", "/message").unwrap()),
            offering_id: Some(OfferingId::default()),
        }
    }

    fn submitted() -> LeadEvent {
        LeadEvent::Submitted {
            lead_id: LeadId::default(),
            name: Personal::new(Name::new("Ada Canary", "/name").unwrap()),
            email: Some(Personal::new(Email::new("ada@canary.example", "/email").unwrap())),
            phone: None,
            message: Some(Personal::new(Notes::new("Is the canary free?", "/message").unwrap())),
            offering_id: Some(OfferingId::default()),
        }
    }

    #[test]
    fn nothing_personal_is_in_a_payload() {
        let payload = serde_json::to_string(&submitted()).unwrap();
        assert!(!payload.contains("Ada") && !payload.contains("anary"), "{payload}");
        assert!(!format!("{:?}", submitted()).contains("anary"));
        assert!(!format!("{:?}", submit(Some("ada@canary.example"), None)).contains("anary"));
    }

    #[test]
    fn personal_fields_are_the_leads_own_and_come_back_by_name() {
        let (mut event, mut seen) = (submitted(), Vec::new());
        event.visit_personal(&mut |field, subject, slot| seen.push((field, subject, slot.value())));
        let subject = LeadId::default().into();
        assert_eq!(
            seen,
            [
                ("name", subject, Some("Ada Canary".into())),
                ("email", subject, Some("ada@canary.example".into())),
                ("message", subject, Some("Is the canary free?".into())),
            ]
        );
        let mut read: LeadEvent = serde_json::from_value(serde_json::to_value(&event).unwrap()).unwrap();
        read.visit_personal(&mut |field, _, slot| {
            let value = seen.iter().find(|it| it.0 == field).unwrap().2.clone();
            slot.restore(value).unwrap();
        });
        assert_eq!(read, submitted());
    }

    #[test]
    fn a_lead_is_submitted_with_an_address_or_a_number() {
        lead()
            .given_no_previous_events()
            .when(submit(Some("ada@canary.example"), None))
            .then_expect_events(vec![submitted()]);
        let by_phone = Lead::default()
            .decide(
                &submit(None, Some("+32 470 00 00 00")),
                &LeadContext { id: LeadId::default(), offering_exists: true },
            )
            .unwrap();
        assert!(matches!(&by_phone[..], [LeadEvent::Submitted { email: None, phone: Some(_), .. }]));
        lead().given_no_previous_events().when(submit(None, None)).then_expect_error(DomainError::field(
            "/email",
            "contact_required",
            "an e-mail address or a telephone number is required",
        ));
    }

    #[test]
    fn a_lead_names_an_offering_that_exists() {
        TestFramework::<Lead>::with(LeadContext { id: LeadId::default(), offering_exists: false })
            .given_no_previous_events()
            .when(submit(Some("ada@canary.example"), None))
            .then_expect_error(DomainError::field("/offering_id", "unknown_offering", "no such offering"));
    }

    #[test]
    fn a_lead_is_submitted_once() {
        lead()
            .given(vec![submitted()])
            .when(submit(Some("ada@canary.example"), None))
            .then_expect_error(DomainError::AlreadyExists { what: "lead".into() });
    }

    #[test]
    fn a_lead_is_handled_once() {
        lead()
            .given(vec![submitted()])
            .when(LeadCommand::Handle)
            .then_expect_events(vec![LeadEvent::Handled]);
        lead()
            .given(vec![submitted(), LeadEvent::Handled])
            .when(LeadCommand::Handle)
            .then_expect_error(DomainError::wrong_state("handled", "the lead has been handled"));
        lead()
            .given_no_previous_events()
            .when(LeadCommand::Handle)
            .then_expect_error(DomainError::not_found("lead"));
    }
}
