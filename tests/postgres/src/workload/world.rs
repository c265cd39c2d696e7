//! What exists: the model by which every step is a valid one.

use super::rng::Rng;

/// The tablespace that every cluster has.
pub(super) const PG_DEFAULT: &str = "pg_default";

/// Everything in the cluster that the workload made.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Given out with every name: none is used twice.
    number: u64,
    /// The first one is the one that every cluster has.
    pub(super) databases: Vec<Database>,
    /// The one that is connected to.
    pub(super) at: usize,
    /// Without the one that every cluster has.
    pub(super) spaces: Vec<String>,
    pub(super) prepared: Vec<Prepared>,
}

#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) space: String,
    pub(super) schemas: Vec<String>,
    pub(super) tables: Vec<Table>,
    pub(super) parents: Vec<Parent>,
    pub(super) views: Vec<View>,
    pub(super) sequences: Vec<String>,
    /// Large objects.
    pub(super) objects: Vec<u64>,
}

/// A table with rows of its own.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// With its schema.
    pub(super) name: String,
    pub(super) unlogged: bool,
    /// Where it is, when that is not where its database is.
    pub(super) space: Option<String>,
    pub(super) indexes: Vec<Index>,
    /// Columns that came later.
    pub(super) extra: Vec<String>,
    /// Whether the column `a` has eight bytes.
    pub(super) wide: bool,
    /// The key of the next row.
    pub(super) next: u64,
    /// Whether a prepared transaction has changed it and keeps others from doing the same.
    pub(super) locked: bool,
    /// The partitioned table that it belongs to.
    pub(super) parent: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) space: Option<String>,
    /// What it is of: method, columns, options.
    pub(super) kind: &'static str,
    /// Whether the table can be put into its order.
    pub(super) ordered: bool,
}

/// A partitioned table.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    pub(super) name: String,
    /// The number of the next partition; each has a range of keys of its own.
    pub(super) next: u64,
}

/// A materialized view.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) table: String,
    pub(super) space: Option<String>,
    /// Whether it can be refreshed beside its readers.
    pub(super) unique: bool,
}

/// A transaction that waits to be committed or rolled back.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) name: String,
    pub(super) database: String,
    /// What it has locked.
    pub(super) table: String,
    /// What is there when it commits.
    pub(super) created: Table,
}

impl Database {
    pub(super) fn new(name: &str, space: &str) -> Self {
        Database {
            name: name.into(),
            space: space.into(),
            schemas: vec!["public".into()],
            tables: Vec::new(),
            parents: Vec::new(),
            views: Vec::new(),
            sequences: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// How a tablespace is kept in mind: where the database is needs no word, and goes where the database goes.
    pub(super) fn other_than_own(&self, space: &str) -> Option<String> {
        (space != self.space).then(|| space.to_owned())
    }

    /// The tablespaces that its relations name.
    pub(super) fn named_spaces(&self) -> impl Iterator<Item = &String> {
        let indexes = self.tables.iter().flat_map(|table| &table.indexes).filter_map(|index| index.space.as_ref());
        let tables = self.tables.iter().filter_map(|table| table.space.as_ref());
        tables.chain(indexes).chain(self.views.iter().filter_map(|view| view.space.as_ref()))
    }

    /// Where each of its relations is.
    pub(super) fn spaces_mut(&mut self) -> impl Iterator<Item = &mut Option<String>> {
        let views = self.views.iter_mut().map(|view| &mut view.space);
        let tables = self.tables.iter_mut().flat_map(|table| {
            let indexes = table.indexes.iter_mut().map(|index| &mut index.space);
            indexes.chain([&mut table.space])
        });
        tables.chain(views)
    }

    /// The places of the tables that satisfy a condition.
    pub(super) fn tables_that(&self, condition: impl Fn(&Table) -> bool) -> Vec<usize> {
        (0..self.tables.len()).filter(|at| condition(&self.tables[*at])).collect()
    }

    pub(super) fn has_view_of(&self, table: &str) -> bool {
        self.views.iter().any(|view| view.table == table)
    }

    /// Forgets a table and what is made of it.
    pub(super) fn forget_table(&mut self, name: &str) {
        self.tables.retain(|table| table.name != name);
        self.views.retain(|view| view.table != name);
    }
}

impl World {
    pub(super) fn new() -> Self {
        let first = Database::new("postgres", PG_DEFAULT);
        World { number: 0, databases: vec![first], at: 0, spaces: Vec::new(), prepared: Vec::new() }
    }

    /// As it was, but for the names that were used since.
    pub(super) fn go_back_to(&mut self, before: World) {
        *self = World { number: self.number, ..before };
    }

    pub(super) fn here(&mut self) -> &mut Database {
        &mut self.databases[self.at]
    }

    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// A name that nothing had before.
    pub(super) fn name(&mut self, begin: &str) -> String {
        format!("{begin}{}", self.number())
    }

    /// A new name in one of the schemas.
    pub(super) fn name_in_schema(&mut self, rng: &mut Rng, begin: &str) -> String {
        let name = self.name(begin);
        let schema = rng.pick(&self.here().schemas).expect("public is always there").clone();
        format!("{schema}.{name}")
    }

    /// One of the tablespaces, the one that every cluster has among them.
    pub(super) fn any_space(&self, rng: &mut Rng) -> String {
        let at = rng.index(self.spaces.len() + 1).unwrap_or(0);
        self.spaces.get(at).map_or(PG_DEFAULT, String::as_str).to_owned()
    }

    /// One of the tables here that satisfy a condition and are not locked.
    pub(super) fn any_table(&mut self, rng: &mut Rng, condition: impl Fn(&Table) -> bool) -> Option<&mut Table> {
        let here = self.here();
        let fitting = here.tables_that(|table| !table.locked && condition(table));
        let at = *rng.pick(&fitting)?;
        Some(&mut here.tables[at])
    }

    /// Whether a database has nothing that keeps others from it.
    pub(super) fn is_idle(&self, at: usize) -> bool {
        at != self.at && !self.prepared.iter().any(|prepared| prepared.database == self.databases[at].name)
    }

    /// Whether nothing is in a tablespace.
    pub(super) fn is_unused(&self, space: &str) -> bool {
        let uses = |database: &Database| database.space == space || database.named_spaces().any(|name| name == space);
        let created = |prepared: &Prepared| prepared.created.space.as_deref() == Some(space);
        !self.databases.iter().any(uses) && !self.prepared.iter().any(created)
    }
}
