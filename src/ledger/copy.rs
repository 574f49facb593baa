//! The copy of the head log outside the database: in a folder, or in an object store that speaks S3. It has the layout of
//! C2SP tlog-tiles (`checkpoint`, `tile/…`, `tile/entries/…`), and the heads themselves as `heads/<index>.json.gz`.
//!
//! Best where those who administer the database can neither change nor delete: an object store with a lock on versions.

use std::{path::Path as FilePath, sync::Arc};

use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem, path::Path};

/// What a setting that names a bucket begins with.
const S3: &str = "s3://";
/// How long the object store is asked again before that is called a failure; the next minute comes soon.
#[cfg(feature = "s3")]
const RETRY: std::time::Duration = std::time::Duration::from_secs(20);

/// Why there is no copy, or what failed with it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The setting is none.
    #[error("ledger_copy must be a folder, `s3://bucket/prefix` or `none`")]
    Setting,
    /// This program cannot speak to S3.
    #[error("ledger_copy names a bucket, and this program was built without the feature `s3`")]
    NoS3,
    /// The folder cannot be made.
    #[error("make the folder of the ledger's copy")]
    Folder(#[source] std::io::Error),
    /// The object store refused or is away.
    #[error("{attempted} in the ledger's copy")]
    Store {
        /// What was attempted.
        attempted: &'static str,
        /// Why it failed.
        #[source]
        source: object_store::Error,
    },
    /// What is there cannot be read as what it must be.
    #[error("the copy's checkpoint is not text")]
    NotText,
}

impl CopyError {
    fn store(attempted: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Store { attempted, source }
    }
}

/// Where the head log is copied to, if anywhere. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HeadCopy(Option<Place>);

#[derive(Clone, Debug)]
struct Place {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl HeadCopy {
    /// No copy.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// What a setting says: `none`, `s3://bucket/prefix`, or a folder, which is made. For S3 the environment says the rest
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT`, …).
    ///
    /// # Errors
    /// When the setting is none, or the place cannot be used.
    pub fn open(setting: &str) -> Result<Self, CopyError> {
        if setting == "none" {
            return Ok(Self::none());
        }
        let Some(rest) = setting.strip_prefix(S3) else {
            return if setting.is_empty() {
                Err(CopyError::Setting)
            } else {
                Self::folder(FilePath::new(setting))
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(CopyError::Setting);
        }
        let options = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        Self::s3(bucket, prefix, options)
    }

    /// A folder, which is made.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn folder(folder: &FilePath) -> Result<Self, CopyError> {
        std::fs::create_dir_all(folder).map_err(CopyError::Folder)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(CopyError::store("open the folder"))?;
        // What is acknowledged is on disk.
        Ok(Self(Some(Place { store: Arc::new(store.with_fsync(true)), prefix: Path::default() })))
    }

    /// A bucket; `options` are the usual variables of AWS.
    ///
    /// # Errors
    /// When the options do not make a client.
    #[cfg(feature = "s3")]
    pub fn s3(
        bucket: &str,
        prefix: &str,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, CopyError> {
        use object_store::{
            RetryConfig,
            aws::{AmazonS3Builder, AmazonS3ConfigKey},
        };

        // Of those who ask first one decides for the process; it is the only one there is here.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retry);
        for (name, value) in options {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder.build().map_err(CopyError::store("open the bucket"))?;
        Ok(Self(Some(Place { store: Arc::new(store), prefix: Path::from(prefix) })))
    }

    /// A bucket, which needs another build.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "s3"))]
    pub fn s3(
        _bucket: &str,
        _prefix: &str,
        _options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, CopyError> {
        Err(CopyError::NoS3)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// The copy's checkpoint, if it has one.
    ///
    /// # Errors
    /// When the store refuses or is away.
    pub async fn checkpoint(&self) -> Result<Option<String>, CopyError> {
        match self.read("checkpoint").await? {
            Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| CopyError::NotText),
            None => Ok(None),
        }
    }

    /// An object's bytes, if it is there.
    ///
    /// # Errors
    /// When the store refuses or is away.
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, CopyError> {
        let Some(place) = &self.0 else { return Ok(None) };
        let found = match place.store.get(&place.path(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(CopyError::store("read"))?,
        };
        Ok(Some(found.bytes().await.map_err(CopyError::store("read"))?.to_vec()))
    }

    pub(super) async fn write(&self, name: &str, bytes: Vec<u8>) -> Result<(), CopyError> {
        let Some(place) = &self.0 else { return Ok(()) };
        let payload = PutPayload::from(bytes);
        place.store.put(&place.path(name), payload).await.map(drop).map_err(CopyError::store("write"))
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), CopyError> {
        let Some(place) = &self.0 else { return Ok(()) };
        match place.store.delete(&place.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(CopyError::store("delete")(error)),
        }
    }
}

impl Place {
    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }
}
