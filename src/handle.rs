//! An opened repository together with what every use case needs: one place to set it, short calls after that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use setpiece_core::backup::archive::Archived;
use setpiece_core::backup::log::{StreamOptions, StreamReport};
use setpiece_core::backup::sweep::{Afterwards, SweepReport};
use setpiece_core::backup::{BackupOptions, BackupReport, Surroundings, new_repository_id};
use setpiece_core::catalog::Catalog;
use setpiece_core::catalog::cache::Cache;
use setpiece_core::copy::CopyReport;
use setpiece_core::events::{Observer, Silent};
use setpiece_core::format::{Compression, RepoDescriptor};
use setpiece_core::media::Medium;
use setpiece_core::media::repository::Repository;
use setpiece_core::model::SourceId;
use setpiece_core::model::retention::Policy;
use setpiece_core::pipeline::Cancel;
use setpiece_core::rekey::{Renewal, Renewed};
use setpiece_core::restore::{PageImage, PageRequest, RestorePlan, RestoreReport, RestoreRequest};
use setpiece_core::retain::{ExpireReport, Removed};
use setpiece_core::source::{CapturedUnit, LogShelf, NamedPosition, OpenRequest, Recovery, Source, SourceInfo};
use setpiece_core::transform::{Recipient, Secret, SlotRequest, new_descriptor, plain_descriptor};
use setpiece_core::verify::{CheckReport, Depth};
use setpiece_core::{Error, ErrorKind, Result};

use crate::{engines, media};

/// An opened repository and the surroundings of its use cases. Every method is one call of the function it is named
/// after; whoever wants other surroundings calls those with [`Setpiece::repository`].
///
/// May be shared by threads, except for changes of keys.
pub struct Setpiece {
    repository: Repository,
    recoveries: Vec<&'static dyn Recovery>,
    observer: Arc<dyn Observer>,
    cancel: Cancel,
    cache: Option<Cache>,
    /// The directory that the repository is in, where it was named by a URL that says so.
    directory: Option<PathBuf>,
}

impl Setpiece {
    /// Makes an encrypted repository at a URL and opens it. It keeps its choice for ever.
    ///
    /// # Errors
    /// [`Key`](crate::ErrorKind::Key) without a slot, [`Exists`](crate::ErrorKind::Exists) when there is a repository,
    /// and whatever the medium fails with.
    pub fn init(url: &str, slots: &[SlotRequest]) -> Result<Self> {
        Ok(Setpiece::init_on(media::create(url)?, slots)?.below(url))
    }

    /// As [`Setpiece::init`], on a medium that is open already.
    ///
    /// # Errors
    /// As [`Setpiece::init`].
    pub fn init_on(medium: Arc<dyn Medium>, slots: &[SlotRequest]) -> Result<Self> {
        let (descriptor, vault) = new_descriptor(new_repository_id()?, slots)?;
        Ok(Setpiece::with(Repository::init(medium, descriptor, vault)?))
    }

    /// Makes a repository without encryption at a URL and opens it. It keeps its choice for ever.
    ///
    /// # Errors
    /// [`Exists`](crate::ErrorKind::Exists) when there is one, and whatever the medium fails with.
    pub fn init_plain(url: &str) -> Result<Self> {
        Ok(Setpiece::init_plain_on(media::create(url)?)?.below(url))
    }

    /// As [`Setpiece::init_plain`], on a medium that is open already.
    ///
    /// # Errors
    /// As [`Setpiece::init_plain`].
    pub fn init_plain_on(medium: Arc<dyn Medium>) -> Result<Self> {
        let (descriptor, vault) = plain_descriptor(new_repository_id()?);
        Ok(Setpiece::with(Repository::init(medium, descriptor, vault)?))
    }

    /// Opens the repository at a URL with what secrets the caller has. With none, a repository that has a recipient can
    /// be written to and not read.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) where there is none, [`Key`](crate::ErrorKind::Key) when the secrets do
    /// not fit.
    pub fn open(url: &str, secrets: &[Secret]) -> Result<Self> {
        let medium = media::open(url).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.remedy("make a repository with `setpiece init`, or correct the path"),
            _ => error,
        })?;
        Ok(Setpiece::open_on(medium, secrets)?.below(url))
    }

    /// As [`Setpiece::open`], on a medium that is open already.
    ///
    /// # Errors
    /// As [`Setpiece::open`].
    pub fn open_on(medium: Arc<dyn Medium>, secrets: &[Secret]) -> Result<Self> {
        Ok(Setpiece::with(Repository::open(medium, secrets)?))
    }

    /// How the repository at a URL says that it is keyed: who may open it, without opening it. Nothing proves that nobody
    /// changed it.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) where there is none, and whatever the medium fails with.
    pub fn unproven_descriptor(url: &str) -> Result<RepoDescriptor> {
        Repository::unproven_descriptor(&*media::open(url)?)
    }

    fn with(repository: Repository) -> Self {
        Setpiece {
            repository,
            recoveries: engines::recoveries(),
            observer: Arc::new(Silent),
            cancel: Cancel::new(),
            cache: None,
            directory: None,
        }
    }

    fn real_directory(&self) -> Option<PathBuf> {
        self.directory.as_ref()?.canonicalize().ok()
    }

    fn below(mut self, url: &str) -> Self {
        self.directory = media::directory(url);
        self
    }

    /// Tells `observer` what happens from now on.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Stops when `cancel` says so.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Keeps copies of metadata below a directory, which several processes and repositories may share.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn cached_below(mut self, directory: &Path) -> Result<Self> {
        self.cache = Some(Cache::open(directory, self.repository.id())?);
        Ok(self)
    }

    /// Recovers and checks sets of one more engine: the caller's own.
    #[must_use]
    pub fn recovered_by(mut self, recovery: &'static dyn Recovery) -> Self {
        self.recoveries.push(recovery);
        self
    }

    /// Writes to these public keys and no others: refuses a repository that names another. A host without secrets
    /// cannot prove who put a key there.
    ///
    /// # Errors
    /// [`Key`](crate::ErrorKind::Key) naming the key that is not trusted.
    pub fn trusting(mut self, recipients: &[Recipient]) -> Result<Self> {
        self.repository = self.repository.trusting(recipients)?;
        Ok(self)
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The engines that sets can be recovered by.
    #[must_use]
    pub fn recoveries(&self) -> &[&'static dyn Recovery] {
        &self.recoveries
    }

    /// The surroundings of every call.
    #[must_use]
    pub fn around(&self) -> Surroundings<'_> {
        Surroundings { observer: &*self.observer, cancel: &self.cancel, cache: self.cache.as_ref() }
    }

    /// What the repository holds.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn catalog(&self) -> Result<Catalog> {
        Catalog::load(&self.repository, self.cache.as_ref())
    }

    /// Where the log of a running database is, in the numbers of its sets and redo on record. Without a secret those
    /// cannot be read, and an engine whose log does not number itself begins to count anew.
    ///
    /// # Errors
    /// As [`Setpiece::catalog`], and when the database cannot be reached.
    pub fn positions(&self, source: &dyn Source) -> Result<Vec<NamedPosition>> {
        let id = source.info()?.id;
        let catalog = self.catalog()?;
        let memory = catalog.memory_of(source, id, self.repository.vault().can_read())?;
        source.positions_behind(memory.as_deref())
    }

    /// Takes a backup.
    ///
    /// # Errors
    /// As [`backup`](crate::backup::backup).
    pub fn backup(&self, source: &dyn Source, options: &BackupOptions) -> Result<BackupReport> {
        crate::backup::backup(&self.repository, source, options, self.around())
    }

    /// Captures redo until cancelled or idle for as long as the options say.
    ///
    /// # Errors
    /// As [`stream`](crate::backup::log::stream).
    pub fn log_stream(&self, source: &dyn Source, options: &StreamOptions) -> Result<StreamReport> {
        crate::backup::log::stream(&self.repository, source, options, self.around())
    }

    /// Stores one unit of redo that the engine hands over, such as a segment of PostgreSQL's log.
    ///
    /// # Errors
    /// As [`archive`](crate::backup::archive::archive()).
    pub fn log_push(&self, info: &SourceInfo, unit: &CapturedUnit, compression: Compression) -> Result<Archived> {
        crate::backup::archive::archive(&self.repository, info, unit, compression, self.around())
    }

    /// Stores the redo that lies in a directory.
    ///
    /// # Errors
    /// As [`sweep`](crate::backup::sweep::sweep()).
    pub fn log_backup(
        &self,
        shelf: &dyn LogShelf,
        compression: Compression,
        afterwards: Afterwards,
    ) -> Result<SweepReport> {
        crate::backup::sweep::sweep(&self.repository, shelf, compression, afterwards, self.around())
    }

    /// Reads one unit of redo back by its name.
    ///
    /// # Errors
    /// As [`fetch`](crate::restore::fetch()).
    pub fn log_fetch(&self, source: SourceId, name: &str) -> Result<Vec<u8>> {
        crate::restore::fetch(&self.repository, source, name, self.around())
    }

    /// Says what a restore would read and write.
    ///
    /// # Errors
    /// As [`plan`](crate::restore::plan()).
    pub fn plan(&self, request: &RestoreRequest) -> Result<RestorePlan> {
        crate::restore::plan(&self.repository, &self.recoveries, request, self.around())
    }

    /// Reads one page back, as a set has it.
    ///
    /// # Errors
    /// As [`page`](crate::restore::page()).
    pub fn page(&self, request: &PageRequest) -> Result<PageImage> {
        crate::restore::page(&self.repository, &self.recoveries, request, self.around())
    }

    /// Refuses a target as the restore of a plan would, and writes nothing.
    ///
    /// # Errors
    /// As [`restore`](crate::restore::restore) fails before anything is written.
    pub fn check_target(&self, plan: &RestorePlan, request: &RestoreRequest, to: &Path) -> Result<()> {
        crate::restore::check_target_of(&self.recoveries, plan, request, to)
    }

    /// Starts a restored database and waits until it is open to its users. `engine` is that of the set it came from.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for engines that are no servers; when the server does not start.
    pub fn open_restored(&self, engine: &str, directory: &Path, how: &OpenRequest<'_>) -> Result<()> {
        let recovery = self
            .recoveries
            .iter()
            .find(|recovery| recovery.engine() == engine)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("nothing here knows the engine {engine}")))?;
        recovery.open(directory, how)
    }

    /// Restores and recovers into a directory that does not exist yet or is empty, or with [`RestoreRequest::delta`] over
    /// one that holds the database.
    ///
    /// # Errors
    /// As [`restore`](crate::restore::restore), and [`Target`](crate::ErrorKind::Target) for a place inside of the
    /// repository.
    pub fn restore(&self, request: &RestoreRequest, to: &Path) -> Result<RestoreReport> {
        self.refuse_inside(to)?;
        request.map.iter().try_for_each(|(_, place)| self.refuse_inside(place))?;
        crate::restore::restore(&self.repository, &self.recoveries, request, to, self.around())
    }

    /// Refuses a place that lies inside of the repository's own directory, where nothing but the repository may write.
    /// Of a medium that was not named by a `disk:` URL it is not known where it is.
    ///
    /// # Errors
    /// [`Target`](crate::ErrorKind::Target).
    pub fn refuse_inside(&self, place: &Path) -> Result<()> {
        let Some(directory) = self.real_directory() else { return Ok(()) };
        let absolute = std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
        let real = absolute.ancestors().find_map(|above| above.canonicalize().ok());
        if !real.is_some_and(|real| real.starts_with(&directory)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Target, "lies inside of the repository")
            .on(place.display().to_string())
            .remedy("name a directory outside of it"))
    }

    /// Checks sets, all of them when none is named, on `channels` threads.
    ///
    /// # Errors
    /// As [`check`](crate::verify::check). Damage is in the report.
    pub fn check(&self, sets: &[String], depth: Depth, channels: u16) -> Result<CheckReport> {
        crate::verify::check(&self.repository, &self.recoveries, sets, depth, channels, self.around())
    }

    /// What [`Setpiece::remove`] would remove, in that order.
    ///
    /// # Errors
    /// As [`plan_removal`](crate::retain::plan_removal).
    pub fn plan_removal(&self, set: &str, cascade: bool) -> Result<Vec<Removed>> {
        crate::retain::plan_removal(&self.repository, set, cascade, self.around())
    }

    /// Removes a set, and with `cascade` those that are built on it.
    ///
    /// # Errors
    /// As [`remove`](crate::retain::remove).
    pub fn remove(&self, set: &str, cascade: bool) -> Result<Vec<Removed>> {
        crate::retain::remove(&self.repository, set, cascade, self.around())
    }

    /// Removes what a policy lets go and what crashes left behind.
    ///
    /// # Errors
    /// As [`expire`](crate::retain::expire).
    pub fn expire(&self, policy: &Policy, dry_run: bool) -> Result<ExpireReport> {
        crate::retain::expire(&self.repository, policy, dry_run, self.around())
    }

    /// Copies sets, all of them when none is named, with the bases they need.
    ///
    /// # Errors
    /// As [`copy`](crate::copy::copy).
    pub fn copy_to(&self, target: &Setpiece, sets: &[String]) -> Result<CopyReport> {
        if self.real_directory().is_some_and(|directory| target.real_directory() == Some(directory)) {
            return Err(Error::new(ErrorKind::Usage, "source and target are the same repository")
                .on(target.repository.medium().label())
                .remedy("name another place to copy to"));
        }
        crate::copy::copy(&self.repository, &target.repository, sets, self.around())
    }

    /// Lets one more key open the repository.
    ///
    /// # Errors
    /// As [`rekey::add`](crate::rekey::add).
    pub fn add_key(&mut self, slot: &SlotRequest) -> Result<()> {
        crate::rekey::add(&mut self.repository, slot)
    }

    /// Takes a key's slot away.
    ///
    /// # Errors
    /// As [`rekey::remove`](crate::rekey::remove).
    pub fn remove_key(&mut self, slot: u32) -> Result<()> {
        crate::rekey::remove(&mut self.repository, slot)
    }

    /// Gives the repository a new key, opened by the slots named and nothing else, and wraps those of all sets anew.
    /// Recipients have to be named again as well.
    ///
    /// # Errors
    /// As [`rekey::renew`](crate::rekey::renew).
    pub fn rotate_keys(&mut self, renewal: &Renewal<'_>) -> Result<Renewed> {
        crate::rekey::renew(&mut self.repository, renewal)
    }
}
