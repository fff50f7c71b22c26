//! The people of one configuration, found by each of the names that they have.
//!
//! A provider may write thousands of them one by one, and every change is a configuration of its
//! own: a copy shares whatever did not change.

use std::collections::BTreeSet;
use std::sync::Arc;

use corral_model::ids::{PrincipalName, ResourceName};
use corral_model::resource::UserSpec;

use super::spread::Spread;

type Names = BTreeSet<PrincipalName>;

#[derive(Debug, Clone, Default)]
pub(crate) struct People {
    users: Spread<PrincipalName, Arc<UserSpec>>,
    /// By provider and the provider's own name for somebody.
    by_subject: Spread<(ResourceName, String), Names>,
    /// By account and id there.
    by_account: Spread<(String, String), Names>,
    /// By name in lower case.
    by_lower_case: Spread<String, Names>,
}

impl People {
    /// Puts a person in the place of the earlier one of that name.
    pub(super) fn put(&mut self, user: UserSpec) {
        if let Some(earlier) = self.users.get(&user.name).cloned() {
            self.index(&earlier, |names, name| {
                names.remove(name);
            });
        }
        self.index(&user, |names, name| {
            names.insert(name.clone());
        });
        self.users.insert(user.name.clone(), Arc::new(user));
    }

    pub(crate) fn get(&self, name: &PrincipalName) -> Option<&UserSpec> {
        self.users.get(name).map(|user| &**user)
    }

    pub(crate) fn contains_key(&self, name: &PrincipalName) -> bool {
        self.users.get(name).is_some()
    }

    /// Whom a provider calls so, by name.
    pub(crate) fn of_subject(
        &self,
        provider: &ResourceName,
        subject: &str,
    ) -> impl Iterator<Item = &UserSpec> {
        self.all(self.by_subject.get(&(provider.clone(), subject.to_owned())))
    }

    /// Those with this name, whatever its case.
    pub(crate) fn in_any_case(&self, name: &str) -> impl Iterator<Item = &UserSpec> {
        self.all(self.by_lower_case.get(&name.to_ascii_lowercase()))
    }

    /// The person with this account elsewhere.
    pub(crate) fn of_account(&self, account: &str, id: &str) -> Option<&UserSpec> {
        self.all(self.by_account.get(&(account.to_owned(), id.to_owned()))).next()
    }

    /// Somebody else with this account.
    pub(super) fn other_with_account(
        &self,
        account: &str,
        id: &str,
        name: &PrincipalName,
    ) -> Option<&PrincipalName> {
        let names = self.by_account.get(&(account.to_owned(), id.to_owned()))?;
        names.iter().find(|other| *other != name)
    }

    /// Everybody, by name.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = &UserSpec> {
        self.users.sorted().into_iter().map(|(_, user)| &**user)
    }

    fn all<'p>(&'p self, names: Option<&'p Names>) -> impl Iterator<Item = &'p UserSpec> {
        names.into_iter().flatten().filter_map(|name| self.get(name))
    }

    fn index(&mut self, user: &UserSpec, change: impl Fn(&mut Names, &PrincipalName)) {
        let name = &user.name;
        let lower = name.as_str().to_ascii_lowercase();
        self.by_lower_case.change(lower, |names| change(names, name), Names::is_empty);
        for (account, id) in &user.accounts {
            let key = (account.clone(), id.clone());
            self.by_account.change(key, |names| change(names, name), Names::is_empty);
        }
        let identity = user.identity.as_ref();
        let subject = identity.and_then(|one| Some((one.provider.clone(), one.subject.clone()?)));
        if let Some(key) = subject {
            self.by_subject.change(key, |names| change(names, name), Names::is_empty);
        }
    }
}

#[cfg(test)]
mod tests {
    use corral_model::resource::ExternalIdentity;

    use super::*;

    fn corp() -> ResourceName {
        ResourceName::new("corp").expect("a name")
    }

    fn user(name: &str, subject: Option<&str>, account: Option<&str>) -> UserSpec {
        let mut user = UserSpec::new(PrincipalName::new(name).expect("a name"));
        let subject = subject.map(ToOwned::to_owned);
        user.identity = Some(ExternalIdentity { provider: corp(), subject });
        user.accounts =
            account.map(|id| ("github".to_owned(), id.to_owned())).into_iter().collect();
        user
    }

    fn name_of(found: Option<&UserSpec>) -> Option<&str> {
        found.map(|user| user.name.as_str())
    }

    #[test]
    fn a_person_is_found_by_every_name_and_not_by_an_earlier_one() {
        let mut people = People::default();
        people.put(user("Ada", Some("s-1"), Some("1001")));
        let before = people.clone();
        people.put(user("Ada", Some("s-2"), None));
        people.put(user("grace", None, None));
        let found = |people: &People| {
            let names = [
                name_of(people.of_subject(&corp(), "s-1").next()),
                name_of(people.of_subject(&corp(), "s-2").next()),
                name_of(people.of_account("github", "1001")),
                name_of(people.in_any_case("aDA").next()),
            ];
            names.map(|name| name.map(ToOwned::to_owned))
        };
        let ada = || Some("Ada".to_owned());
        assert_eq!(found(&before), [ada(), None, ada(), ada()]);
        assert_eq!(found(&people), [None, ada(), None, ada()]);
        assert_eq!(
            people.sorted().map(|user| user.name.as_str()).collect::<Vec<_>>(),
            ["Ada", "grace"]
        );
    }
}
