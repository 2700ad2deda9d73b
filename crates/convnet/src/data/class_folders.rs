//! Which files of a folder are training images, which are test images, and of which class.
//!
//! Only ordinary files are taken. A link may point to another place below the folder that was opened, never out of it.
//! Names are sorted by their bytes, so the order of the images is the same on every machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{LAYOUTS, OpenOptions, names};
use crate::error::{Error, Result};
use crate::random::{Address, Purpose};

/// The folders that hold test images, the first that is there being taken.
const TEST_NAMES: [&str; 4] = ["test", "val", "valid", "validation"];
const TRAIN_NAME: &str = "train";
const ENDINGS: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];
/// Files and folders that systems and archives leave behind.
const LEFT_BEHIND: [&str; 3] = ["thumbs.db", "desktop.ini", "__macosx"];

/// One image file.
#[derive(Debug, Clone)]
pub(super) struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// The same from the folder that was opened.
    pub relative: PathBuf,
    /// The index of its class.
    pub label: usize,
    /// Why it is not opened: a link out of the folder, a pipe or the like.
    pub refused: Option<String>,
}

/// The files of one class.
type ClassFolder = (String, Vec<ImageFile>);

/// What a folder holds.
pub(super) struct Listing {
    pub train: Vec<ImageFile>,
    pub test: Vec<ImageFile>,
    pub classes: Vec<String>,
    pub notes: Vec<String>,
}

/// What stands in a folder under one name.
enum Kind {
    Folder,
    File,
    /// A link that leaves the folder that was opened, or leads nowhere; a pipe, a socket or a device.
    Refused(String),
}

struct Item {
    path: PathBuf,
    kind: Kind,
}

impl Item {
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder)
    }

    fn is_image(&self) -> bool {
        let ending = self.path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase();
        !self.is_folder() && ENDINGS.contains(&ending.as_str())
    }

    /// The name of a folder as the name of a class.
    fn class(&self) -> Result<String> {
        self.name()
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::format(&self.path, "has a name that is not UTF-8, it cannot be the name of a class; rename the folder"))
    }
}

/// Lists the images of a folder of any of the layouts.
pub(super) fn list(folder: &Path, options: &OpenOptions) -> Result<Listing> {
    Walk::new(folder)?.list(options)
}

struct Walk<'a> {
    folder: &'a Path,
    /// `folder` without links: what links may not leave.
    root: PathBuf,
    notes: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(folder: &'a Path) -> Result<Self> {
        let root = folder.canonicalize().map_err(Error::io(folder, "cannot open the images"))?;
        Ok(Walk { folder, root, notes: Vec::new() })
    }

    fn list(mut self, options: &OpenOptions) -> Result<Listing> {
        let items = self.items(self.folder)?;
        let (train, test) = if let Some((train, test)) = self.split_folders(&items)? {
            let test = test.map(|test| self.items(&test.path)).transpose()?;
            (self.items(&train.path)?, test)
        } else if let Some(test) = self.lone_test_folder(&items)? {
            if options.classes.is_none() {
                return Err(Error::format(self.folder, format!("has a folder {}, but no folder train", test.name().display())));
            }
            (Vec::new(), Some(self.items(&test.path)?))
        } else {
            (items, None)
        };
        let train = self.class_folders(train)?;
        let test = test.map(|items| self.class_folders(items)).transpose()?;
        let classes = match &options.classes {
            Some(expected) => expected.clone(),
            None => train.iter().map(|(name, _)| name.clone()).collect(),
        };
        self.finish(train, test, classes, options)
    }

    /// The folders `train` and `test`, if this is how the folder is laid out: `train` holds folders of its own. The rest
    /// is noted.
    fn split_folders<'b>(&mut self, items: &'b [Item]) -> Result<Option<(&'b Item, Option<&'b Item>)>> {
        let named = |name: &str| items.iter().find(|item| item.is_folder() && item.name().eq_ignore_ascii_case(name));
        let Some(train) = named(TRAIN_NAME) else { return Ok(None) };
        if !self.items(&train.path)?.iter().any(Item::is_folder) {
            return Ok(None);
        }
        let test = TEST_NAMES.iter().find_map(|name| named(name));
        for item in items.iter().filter(|item| item.is_folder()) {
            let used = item.path == train.path || test.is_some_and(|test| test.path == item.path);
            if !used {
                self.notes.push(format!("the folder {} is not read", item.name().display()));
            }
        }
        Ok(Some((train, test)))
    }

    /// A folder `test` that holds folders, without a folder `train`.
    fn lone_test_folder<'b>(&self, items: &'b [Item]) -> Result<Option<&'b Item>> {
        for name in TEST_NAMES {
            let test = items.iter().find(|item| item.is_folder() && item.name().eq_ignore_ascii_case(name));
            if let Some(test) = test
                && self.items(&test.path)?.iter().any(Item::is_folder)
            {
                return Ok(Some(test));
            }
        }
        Ok(None)
    }

    /// Each class with its files.
    fn class_folders(&mut self, items: Vec<Item>) -> Result<Vec<ClassFolder>> {
        let mut classes = Vec::new();
        let mut beside = 0;
        for item in items {
            match &item.kind {
                Kind::Folder => classes.push((item.class()?, self.images(&item.path)?)),
                Kind::Refused(reason) if !item.is_image() => {
                    return Err(Error::format(&item.path, format!("{reason}; move or copy the images to this place")));
                }
                _ => beside += usize::from(item.is_image()),
            }
        }
        if beside > 0 {
            self.notes.push(format!("{beside} images lie beside the folders of classes and are not read"));
        }
        Ok(classes)
    }

    /// The image files directly in a folder.
    fn images(&mut self, folder: &Path) -> Result<Vec<ImageFile>> {
        let mut files = Vec::new();
        let (mut folders, mut others) = (0, 0);
        for item in self.items(folder)? {
            let relative = item.path.strip_prefix(self.folder).unwrap_or(&item.path).to_owned();
            match item.kind {
                Kind::Folder => folders += 1,
                _ if !item.is_image() => others += 1,
                Kind::File => files.push(ImageFile { path: item.path, relative, label: 0, refused: None }),
                Kind::Refused(reason) => files.push(ImageFile { path: item.path, relative, label: 0, refused: Some(reason) }),
            }
        }
        let here = folder.strip_prefix(self.folder).unwrap_or(folder).display();
        if folders > 0 {
            self.notes.push(format!("{folders} folders inside {here} are not read; images lie directly in the folder of their class"));
        }
        if others > 0 {
            self.notes.push(format!("{others} files in {here} are not read: they do not end in {}", ENDINGS.join(", ")));
        }
        Ok(files)
    }

    /// What a folder holds, sorted by name, without hidden files.
    fn items(&self, folder: &Path) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "cannot list the folder"))? {
            let entry = entry.map_err(Error::io(folder, "cannot list the folder"))?;
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if hidden || LEFT_BEHIND.iter().any(|left| name.eq_ignore_ascii_case(left)) {
                continue;
            }
            let kind = self.kind(&entry)?;
            items.push(Item { path: entry.path(), kind });
        }
        items.sort_unstable_by(|left, right| left.name().cmp(right.name()));
        Ok(items)
    }

    fn kind(&self, entry: &std::fs::DirEntry) -> Result<Kind> {
        let path = entry.path();
        let mut kind = entry.file_type().map_err(Error::io(&path, "cannot look at it"))?;
        if kind.is_symlink() {
            let Ok(target) = path.canonicalize() else {
                return Ok(Kind::Refused("is a link that leads nowhere".to_owned()));
            };
            if !target.starts_with(&self.root) {
                return Ok(Kind::Refused(format!("is a link to {}, out of the folder that was opened", target.display())));
            }
            kind = std::fs::metadata(&target).map_err(Error::io(&path, "cannot look at it"))?.file_type();
        }
        Ok(match (kind.is_dir(), kind.is_file()) {
            (true, _) => Kind::Folder,
            (_, true) => Kind::File,
            _ => Kind::Refused("is a pipe, a socket or a device".to_owned()),
        })
    }

    /// Gives the files their labels and divides them.
    fn finish(
        mut self,
        train: Vec<ClassFolder>,
        test: Option<Vec<ClassFolder>>,
        classes: Vec<String>,
        options: &OpenOptions,
    ) -> Result<Listing> {
        let of_model = options.classes.is_some();
        self.check_names(&train, &classes, of_model)?;
        self.check_names(test.as_deref().unwrap_or_default(), &classes, of_model)?;
        let found: usize = train.iter().chain(test.iter().flatten()).map(|(_, files)| files.len()).sum();
        if found == 0 {
            return Err(Error::format(self.folder, format!("has no images; expected {LAYOUTS}")));
        }
        let empty: Vec<&String> = train.iter().filter(|(_, files)| files.is_empty()).map(|(name, _)| name).collect();
        if !empty.is_empty() {
            return Err(Error::format(
                self.folder,
                format!("has no image of the class {}; put images there or remove the folder", names(&empty)),
            ));
        }
        let label = |name: &String| classes.iter().position(|class| class == name).unwrap_or_default();
        let mut divided = [Vec::new(), Vec::new()];
        for (name, files) in &train {
            let label = label(name);
            let drawn = if test.is_some() { vec![false; files.len()] } else { draw(files.len(), label, options) };
            for (file, drawn) in files.iter().zip(drawn) {
                divided[usize::from(drawn)].push(ImageFile { label, ..file.clone() });
            }
        }
        for (name, files) in test.iter().flatten() {
            divided[1].extend(files.iter().map(|file| ImageFile { label: label(name), ..file.clone() }));
        }
        let [train, test_files] = divided;
        if test.is_none() {
            self.notes.push(format!(
                "there is no folder of test images; {} of {found} images were drawn for testing, with seed {}",
                test_files.len(),
                options.seed
            ));
        }
        Ok(Listing { train, test: test_files, classes, notes: self.notes })
    }

    /// Refuses folders that are no known class.
    fn check_names(&self, folders: &[ClassFolder], classes: &[String], of_model: bool) -> Result<()> {
        let unknown: Vec<&String> = folders.iter().map(|(name, _)| name).filter(|name| !classes.contains(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let missing: Vec<&String> = classes.iter().filter(|class| !folders.iter().any(|(name, _)| name == *class)).collect();
        let known = if of_model { "unknown to the model" } else { "not among the training images" };
        Err(Error::Argument(format!(
            "{}: has folders of classes that are {known}: {}; the known classes without a folder: {}; rename or remove the folders",
            self.folder.display(),
            names(&unknown),
            names(&missing)
        )))
    }
}

/// Which of the `count` images of a class become test images: the share, rounded, but at least one for each side where
/// there are two images and the share is neither 0 nor 1.
fn draw(count: usize, label: usize, options: &OpenOptions) -> Vec<bool> {
    let share = options.test_share;
    let wanted = (count as f64 * share).round() as usize;
    let wanted = if share > 0.0 && share < 1.0 && count >= 2 { wanted.clamp(1, count - 1) } else { wanted };
    let mut drawn: Vec<bool> = (0..count).map(|index| index < wanted).collect();
    Address::new(options.seed, Purpose::Split).then(label as u64).random().shuffle(&mut drawn);
    drawn
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A folder with these files; they are empty, listing does not read them.
    fn folder(files: &[&str]) -> TempDir {
        let folder = TempDir::new().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn listed(folder: &TempDir) -> Result<Listing> {
        list(folder.path(), &OpenOptions::default())
    }

    fn message(folder: &TempDir) -> String {
        listed(folder).err().expect("the folder is refused").to_string()
    }

    fn paths(files: &[ImageFile]) -> Vec<String> {
        files.iter().map(|file| format!("{} {}", file.label, file.relative.display())).collect()
    }

    #[test]
    fn train_and_test_folders_are_listed_in_the_order_of_names() {
        let files = ["train/dog/b.png", "train/dog/a.JPG", "train/cat/10.webp", "train/cat/9.bmp", "val/dog/x.jpeg", "val/cat/y.png"];
        let listing = listed(&folder(&files)).unwrap();
        assert_eq!(listing.classes, ["cat", "dog"]);
        assert_eq!(paths(&listing.train), ["0 train/cat/10.webp", "0 train/cat/9.bmp", "1 train/dog/a.JPG", "1 train/dog/b.png"]);
        assert_eq!(paths(&listing.test), ["0 val/cat/y.png", "1 val/dog/x.jpeg"]);
        assert!(listing.notes.is_empty(), "{:?}", listing.notes);
    }

    #[test]
    fn test_is_taken_before_val_and_what_is_not_read_is_noted() {
        let files =
            ["train/a/1.png", "train/b/1.png", "test/a/2.png", "val/a/3.png", "train/a/notes.txt", "train/b/deep/4.png", "train/5.png"];
        let listing = listed(&folder(&files)).unwrap();
        assert_eq!(paths(&listing.test), ["0 test/a/2.png"]);
        let notes = listing.notes.join("\n");
        for note in [
            "the folder val is not read",
            "1 files in train/a are not read",
            "1 folders inside train/b are not read",
            "1 images lie beside the folders of classes",
        ] {
            assert!(notes.contains(note), "{note}: {notes}");
        }
    }

    #[test]
    fn hidden_files_and_leavings_are_no_matter() {
        let files = ["a/1.png", "b/1.png", "a/.DS_Store", "b/Thumbs.db", ".cache/x.png", "__MACOSX/a/1.png", "a/._1.png"];
        let listing = listed(&folder(&files)).unwrap();
        assert_eq!(listing.classes, ["a", "b"]);
        assert_eq!(listing.train.len() + listing.test.len(), 2);
        assert_eq!(listing.notes.len(), 1, "{:?}", listing.notes);
    }

    fn two_classes() -> TempDir {
        let files: Vec<String> = (0..60).map(|index| format!("{}/{index}.png", if index < 20 { "few" } else { "many" })).collect();
        folder(&files.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn a_single_level_is_divided_by_the_seed_with_the_share_in_every_class() {
        let folder = two_classes();
        let divided = |seed, test_share| {
            let listing = list(folder.path(), &OpenOptions { seed, test_share, ..OpenOptions::default() }).unwrap();
            let count = |files: &[ImageFile], label| files.iter().filter(|file| file.label == label).count();
            ([count(&listing.train, 0), count(&listing.train, 1), count(&listing.test, 0), count(&listing.test, 1)], paths(&listing.test))
        };
        let (counts, first) = divided(1, 0.2);
        assert_eq!(counts, [16, 32, 4, 8]);
        assert_eq!(divided(1, 0.2).1, first);
        assert_ne!(divided(2, 0.2).1, first);
        assert_eq!(divided(1, 0.0).0, [20, 40, 0, 0]);
        assert_eq!(divided(1, 1.0).0, [0, 0, 20, 40]);
        assert_eq!(divided(1, 0.001).0, [19, 39, 1, 1], "one image at least for testing");
        assert_eq!(divided(1, 0.999).0, [1, 1, 19, 39], "one image at least for training");
    }

    #[test]
    fn a_train_folder_alone_is_divided_too() {
        let listing = listed(&folder(&["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"])).unwrap();
        assert_eq!((listing.train.len(), listing.test.len()), (2, 2));
        assert!(listing.notes[0].contains("2 of 4 images were drawn for testing, with seed 0"));
    }

    #[test]
    fn train_can_be_the_name_of_a_class() {
        let listing = listed(&folder(&["train/1.png", "car/1.png", "test/1.png"])).unwrap();
        assert_eq!(listing.classes, ["car", "test", "train"]);
    }

    #[test]
    fn an_unknown_class_is_named_with_those_that_are_missing() {
        let folder = folder(&["train/a/1.png", "train/b/1.png", "train/c/1.png", "test/a/1.png", "test/d/1.png"]);
        let error = message(&folder);
        assert!(error.contains("not among the training images: 'd'") && error.contains("without a folder: 'b', 'c'"), "{error}");
    }

    #[test]
    fn the_labels_are_those_of_the_model() {
        let folder = folder(&["test/a/1.png", "test/b/1.png"]);
        let expecting = |classes: &[&str]| {
            let classes = Some(classes.iter().map(|&name| name.to_owned()).collect());
            list(folder.path(), &OpenOptions { classes, ..OpenOptions::default() })
        };
        let listing = expecting(&["b", "c", "a"]).unwrap();
        assert_eq!(paths(&listing.test), ["2 test/a/1.png", "0 test/b/1.png"]);
        assert!(listing.train.is_empty());
        let error = expecting(&["a", "c"]).err().unwrap();
        assert!(matches!(error, Error::Argument(_)));
        let error = error.to_string();
        assert!(error.contains("unknown to the model: 'b'") && error.contains("without a folder: 'c'"), "{error}");
        assert!(message(&folder).contains("has a folder test, but no folder train"));
    }

    #[test]
    fn a_folder_without_images_says_what_was_expected() {
        for files in [&[][..], &["notes.txt"], &["1.png", "2.png"], &["a/x.txt", "b/y.txt"]] {
            let error = message(&folder(files));
            assert!(error.contains("has no images; expected train/CLASS/*.png"), "{files:?}: {error}");
        }
        let error = message(&folder(&["a/1.png", "b/1.png", "c/notes.txt"]));
        assert!(error.contains("has no image of the class 'c'"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside_the_folder() {
        use std::os::unix::fs::symlink;

        let outside = folder(&["secret/1.png"]);
        let folder = folder(&["a/1.png", "b/1.png"]);
        let at = |name: &str| folder.path().join(name);
        symlink(at("a/1.png"), at("b/inside.png")).unwrap();
        symlink(outside.path().join("secret/1.png"), at("b/outside.png")).unwrap();
        symlink(at("nowhere"), at("b/dangling.png")).unwrap();
        let listing = listed(&folder).unwrap();
        let mut files: Vec<&ImageFile> = listing.train.iter().chain(&listing.test).collect();
        files.sort_by_key(|file| &file.relative);
        let refused: Vec<_> = files.iter().map(|file| file.refused.as_deref().unwrap_or("taken")).collect();
        assert_eq!(refused[..2], ["taken", "taken"]);
        assert!(refused[2].contains("leads nowhere"), "{refused:?}");
        assert_eq!(refused[3], "taken");
        assert!(refused[4].contains("out of the folder that was opened"), "{refused:?}");

        symlink(outside.path().join("secret"), at("c")).unwrap();
        let error = message(&folder);
        assert!(error.contains("out of the folder that was opened; move or copy the images"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn loops_of_links_and_pipes_do_not_hang() {
        use std::os::unix::fs::symlink;

        let folder = folder(&["a/1.png", "b/1.png"]);
        symlink(folder.path(), folder.path().join("a/loop")).unwrap();
        symlink(folder.path().join("self.png"), folder.path().join("self.png")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("b/pipe.png")).status().unwrap();
        assert!(made.success());
        let listing = listed(&folder).unwrap();
        let refused: Vec<_> = listing.train.iter().chain(&listing.test).filter_map(|file| file.refused.as_deref()).collect();
        assert_eq!(refused, ["is a pipe, a socket or a device"]);
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf_8_are_fine_for_images_but_not_for_classes() {
        use std::os::unix::ffi::OsStrExt;

        let folder = folder(&["a/1.png", "b/1.png"]);
        let odd = OsStr::from_bytes(b"\xff.png");
        std::fs::write(folder.path().join("a").join(odd), "").unwrap();
        let listing = listed(&folder).unwrap();
        assert_eq!(listing.train.len() + listing.test.len(), 3);
        std::fs::create_dir(folder.path().join(OsStr::from_bytes(b"\xff"))).unwrap();
        assert!(message(&folder).contains("has a name that is not UTF-8"));
    }
}
