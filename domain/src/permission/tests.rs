use super::*;

#[test]
fn a_permission_is_written_as_it_is_read() {
    for tier in Tier::ALL {
        for permission in tier.permissions().iter() {
            assert_eq!(permission.to_string().parse::<Permission>().unwrap(), permission);
        }
    }
    for wrong in ["", "bookings", "bookings:read", "bookings:read:all", "bookings:read:own:x", "x:read:own"] {
        assert!(wrong.parse::<Permission>().is_err(), "{wrong}");
    }
}

#[test]
fn of_two_scopes_the_wider_counts() {
    let mut some = Module::Housekeeping.permissions();
    for permission in Module::Reception.permissions().iter() {
        some.allow(permission);
    }
    assert_eq!(some.scope(Resource::Bookings, Action::Read), Some(Scope::Tenant));
    assert!(Module::Housekeeping.permissions().within(&some));
    assert!(!some.within(&Module::Housekeeping.permissions()));
}

#[test]
fn a_tier_manages_only_what_is_below_it() {
    for tier in Tier::ALL {
        let above = Tier::ALL.iter().take_while(|other| *other != tier);
        for other in above {
            assert!(!tier.may_manage(*other), "{tier} manages {other}");
        }
        let own = matches!(tier, Tier::Superuser | Tier::TenantOwner);
        assert_eq!(tier.may_manage(*tier), own, "{tier}");
    }
    assert!(!Tier::PlatformManager.may_manage(Tier::TenantOwner));
}

#[test]
fn no_tenant_tier_has_a_permission_of_the_platform() {
    for tier in Tier::ALL {
        for permission in tier.permissions().iter() {
            assert_eq!(permission.scope == Scope::Platform, tier.is_platform(), "{tier} {permission}");
        }
    }
    assert!(Tier::custom_role_ceiling().within(&Tier::TenantOwner.permissions()));
}
