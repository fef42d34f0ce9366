//! Zip files of exports: opens them within a memory limit, and finds the members to import by name and content.

use std::fs::File;
use std::io::{BufReader, Read};

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use crate::fs::temp_file::TempFile;
use crate::fs::zip_file::{BudgetReader, open_zip};
use crate::transfer::formats::detect::{Detected, HEAD, ImportFormat, detect_format};
use crate::transfer::formats::fitbit::date_in_name;
use crate::transfer::formats::progress::{ProgressReader, ReadProgress};
use crate::transfer::formats::sink::ReadError;
use crate::transfer::formats::temp_copy::TempFolders;

/// Size of read buffers, in bytes.
const BUFFER: usize = 128 * 1024;
/// Names of databases, in lower case.
const DATABASE_NAMES: [&str; 3] = ["health_connect_export.db", "gadgetbridge", "gadgetbridge.db"];
/// Maximum number of members whose beginnings are read to find a database.
const MAX_DATABASES: usize = 20;

/// Reader of a zip file.
type ArchiveReader = BudgetReader<BufReader<ProgressReader<File>>>;

/// Open zip file.
#[derive(Debug)]
pub struct ExportArchive(ZipArchive<ArchiveReader>);

/// Members of a zip file that can be imported.
#[derive(Debug)]
pub enum ArchiveContent {
    /// `export.xml` of Apple Health.
    AppleHealth(usize),
    Database(usize),
    /// Files of heart rates of a Fitbit export, in the order of their dates: index and name.
    Fitbit(Vec<(usize, String)>),
}

impl ExportArchive {
    /// Opens a zip file and reads its directory.
    pub fn open(file: File, progress: ReadProgress) -> Result<Self, ReadError> {
        let reader = BufReader::with_capacity(BUFFER, ProgressReader { inner: file, progress });
        open_zip(reader).map(Self).map_err(zip_error)
    }

    /// Finds the members to import. `format` excludes those of other formats.
    pub fn find(&mut self, format: Option<ImportFormat>) -> Result<ArchiveContent, ReadError> {
        let wants_database = format.is_none_or(ImportFormat::is_database);
        let wants_fitbit = format.is_none_or(|format| format == ImportFormat::Fitbit);
        let wants_text = format.is_none_or(|format| !format.is_database() && format != ImportFormat::Fitbit);
        if wants_text && let Some(index) = self.find_named(|name| name == "export.xml") {
            return Ok(ArchiveContent::AppleHealth(index));
        }
        if wants_fitbit && let Some(members) = self.find_fitbit() {
            return Ok(ArchiveContent::Fitbit(members));
        }
        if wants_database && let Some(index) = self.find_database()? {
            return Ok(ArchiveContent::Database(index));
        }
        if wants_text && let Some(index) = self.find_translated_export()? {
            return Ok(ArchiveContent::AppleHealth(index));
        }
        Err(ReadError::unusable(
            "the zip contains nothing that can be imported: neither an Apple Health export (an XML file with an element \
             HealthData), nor a database of Health Connect or Gadgetbridge, nor heart rates of Fitbit \
             (heart_rate-YYYY-MM-DD.json)",
        ))
    }

    /// Returns the reader of a member's content.
    pub fn member(&mut self, index: usize) -> Result<BufReader<impl Read + '_>, ReadError> {
        Ok(BufReader::with_capacity(BUFFER, self.open_member(index)?))
    }

    /// Unpacks a member into a temporary file.
    pub fn unpack(&mut self, index: usize, temp_folders: &TempFolders) -> Result<TempFile, ReadError> {
        temp_folders.copy(&mut self.open_member(index)?)
    }

    fn open_member(&mut self, index: usize) -> Result<ZipFile<'_, ArchiveReader>, ReadError> {
        self.0.by_index(index).map_err(zip_error)
    }

    /// Returns the names of the members without their folders, in lower case, with their indices.
    fn names(&self) -> impl Iterator<Item = (usize, String)> {
        (0..self.0.len()).filter_map(|index| {
            let path = self.0.name_for_index(index)?.ok()?;
            Some((index, path.rsplit('/').next()?.to_lowercase()))
        })
    }

    fn find_named(&self, is_wanted: impl Fn(&str) -> bool) -> Option<usize> {
        self.names().find(|(_, name)| is_wanted(name)).map(|(index, _)| index)
    }

    /// Finds the files of heart rates of a Fitbit export.
    fn find_fitbit(&self) -> Option<Vec<(usize, String)>> {
        let named = self.names().filter(|(_, name)| date_in_name(name).is_some());
        let mut members: Vec<_> = named.collect();
        // The names differ in their dates alone.
        members.sort_unstable_by(|one, other| (&one.1, one.0).cmp(&(&other.1, other.0)));
        (!members.is_empty()).then_some(members)
    }

    /// Finds a SQLite database by its usual name, or by the end of its name.
    fn find_database(&mut self) -> Result<Option<usize>, ReadError> {
        let named = self.names().filter(|(_, name)| DATABASE_NAMES.contains(&name.as_str()));
        let others = self.names().filter(|(_, name)| name.ends_with(".db"));
        let candidates: Vec<_> = named.chain(others).take(MAX_DATABASES).map(|(index, _)| index).collect();
        self.find_detected(candidates, Detected::Sqlite)
    }

    /// Finds an Apple Health export by its root element, because iOS translates its name.
    fn find_translated_export(&mut self) -> Result<Option<usize>, ReadError> {
        let documents = self.names().filter(|(_, name)| name.ends_with(".xml"));
        let candidates = documents.map(|(index, _)| index).collect();
        self.find_detected(candidates, Detected::Text(ImportFormat::AppleHealth))
    }

    /// Returns the first of these members that has the expected content.
    fn find_detected(
        &mut self,
        candidates: Vec<usize>,
        expected: Detected,
    ) -> Result<Option<usize>, ReadError> {
        for index in candidates {
            let mut head = Vec::new();
            self.open_member(index)?.take(HEAD as u64).read_to_end(&mut head)?;
            if detect_format(&head) == expected {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }
}

fn zip_error(error: ZipError) -> ReadError {
    match error {
        ZipError::Io(e) => e.into(),
        other => ReadError::Unusable(format!("the zip cannot be read: {other}")),
    }
}
