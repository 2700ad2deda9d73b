//! The page of `convnet look` in a real browser, where there is one: Chromium without a window, and a script at the end of
//! a copy of the page that follows links, points at pictures and writes down what it found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{json, run};

/// Names under which the browser is found; `CONVNET_CHROMIUM` names another.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Without a window, and without what it does on the network of its own accord.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
];

/// Follows links, points at pictures, and leaves what it found in the page.
const DRIVER: &str = r##"<script>
addEventListener("securitypolicyviolation", (event) => { (window.violations ||= []).push(event.blockedURI); });
addEventListener("error", (event) => { (window.errors ||= []).push(event.message); });
addEventListener("load", () => setTimeout(() => {
  const found = {};
  found.sections = [...document.querySelectorAll("main section")].map((section) => section.id);
  found.broken_images = [...document.images].filter((image) => !image.complete || image.naturalWidth === 0).length;
  found.images = document.images.length;
  found.without_text = [...document.images].filter((image) => !image.alt).length;
  found.smooth = [...document.images].filter((image) => getComputedStyle(image).imageRendering !== "pixelated").length;
  const links = [...document.querySelectorAll('a[href^="#"]')];
  found.dangling = links.map((link) => link.hash.slice(1)).filter((id) => !document.getElementById(decodeURIComponent(id)));
  const neuron = [...document.querySelectorAll(".neurons a.number")][2];
  neuron.click();
  found.neuron = decodeURIComponent(location.hash);
  found.target = document.querySelector(":target")?.id;
  const top = document.querySelector(":target").getBoundingClientRect().top;
  found.target_in_view = top >= -1 && top < innerHeight;
  const sheet = document.querySelector(".sheets img[data-layer]");
  sheet.scrollIntoView();
  const box = sheet.getBoundingClientRect();
  const point = { bubbles: true, clientX: box.left + 2, clientY: box.top + 2, pointerType: "mouse" };
  sheet.dispatchEvent(new PointerEvent("pointermove", point));
  const tip = document.getElementById("part/numbers");
  found.tip = tip.hidden ? null : tip.textContent;
  sheet.dispatchEvent(new PointerEvent("click", point));
  found.followed = decodeURIComponent(location.hash);
  const cell = document.querySelector(".confusion a");
  cell.click();
  const pair = document.querySelector(".wrongs > :target");
  found.pair = pair !== null && cell.hash.slice(1) === pair.id && pair.querySelectorAll("img").length > 0;
  found.bars = [...document.querySelectorAll(".reliability .accuracy")].filter((bar) => bar.getBoundingClientRect().width > 1).length;
  const pointed = (img) => {
    img.scrollIntoView();
    const box = img.getBoundingClientRect();
    img.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.left + 5, clientY: box.top + 5 }));
    return tip.hidden ? null : tip.textContent;
  };
  found.grid = pointed(document.querySelector(".grid img"));
  found.alike = pointed(document.querySelector(".alike img"));
  found.dots = [...document.querySelectorAll(".scatter path")].map((path) => path.querySelector("title").textContent);
  found.landmarks = ["header", "nav", "main", "footer"].filter((name) => !document.querySelector(name));
  found.wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  found.violations = window.violations || [];
  found.errors = window.errors || [];
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = "FOUND" + JSON.stringify(found) + "DNUOF";
  document.body.append(out);
}, 0));
</script>"##;

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CONVNET_CHROMIUM") {
        return Some(named.into());
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

/// What the driver found on a page, at a window's width, and what the browser itself had to say.
fn driven(browser: &Path, page: &Path, width: usize) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("page.html");
    fs::write(&copy, fs::read_to_string(page).unwrap().replace("</body>", &format!("{DRIVER}</body>"))).unwrap();
    let output = Command::new(browser)
        .args(FLAGS)
        .arg(format!("--window-size={width},900"))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", copy.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // The last of these words are those in the page; the script itself has them too.
    let found = text.rsplit("FOUND").next().and_then(|rest| rest.split_once("DNUOF")).map(|(found, _)| found);
    let found = found.unwrap_or_else(|| panic!("the page did not answer: {}", String::from_utf8_lossy(&output.stderr)));
    let found = found.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let console = String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    (serde_json::from_str(&found).unwrap(), console)
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no Chromium in the PATH, nor in CONVNET_CHROMIUM");
        return;
    };
    let (folder, run) = run();
    for (language, width) in [("en", 1200), ("ko", 500)] {
        let out = format!("browser-{language}");
        json(
            folder.path(),
            &["look", run.to_str().unwrap(), "--samples", "50", "--steps", "4", "--language", language, "--out", &out, "--json"],
        );
        let (found, console) = driven(&browser, &folder.path().join(&out).join("look.html"), width);
        let sections: Vec<&str> = found["sections"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        for section in [
            "part/images",
            "part/attribution",
            "part/arithmetic",
            "part/fields",
            "part/statistics",
            "part/mistakes",
            "part/codes",
            "part/inversion",
            "part/similarity",
            "part/layers",
            "conv1",
            "bn1",
            "relu1",
            "maxpool1",
            "fc1",
        ] {
            assert!(sections.contains(&section), "{section}: {found}");
        }
        for (name, nothing) in [("broken_images", 0), ("without_text", 0), ("smooth", 0), ("wider", 0)] {
            assert_eq!(found[name], nothing, "{name}: {found}");
        }
        for name in ["dangling", "landmarks", "requests", "violations", "errors"] {
            assert_eq!(found[name], Value::Array(Vec::new()), "{name}: {found}");
        }
        assert!(found["images"].as_u64().unwrap() > 20, "{found}");
        assert_eq!((found["neuron"].as_str(), found["target"].as_str()), (Some("#conv1/2"), Some("conv1/2")));
        assert_eq!(found["target_in_view"], true, "{found}");
        assert_eq!(found["followed"], "#conv1/0", "{found}");
        assert_eq!(found["pair"], true, "a cell of the confusion matrix leads to its images: {found}");
        assert!(found["bars"].as_u64().unwrap() > 3, "{found}");
        let tip = found["tip"].as_str().unwrap_or_else(|| panic!("no number under the pointer: {found}"));
        assert!(tip.contains(" 0, ") && tip.contains(": "), "{tip}");
        let grid = found["grid"].as_str().unwrap_or_else(|| panic!("no name under the pointer: {found}"));
        assert!(grid.contains(" · "), "a class and a number: {grid}");
        assert_eq!(found["alike"], "conv1 · conv1: 1", "{found}");
        assert_eq!(found["dots"].as_array().unwrap().len(), 20, "ten classes on two maps: {found}");
        assert!(console.is_empty(), "{console}");
    }
}
