//! `etl service install|uninstall NAME`: a pipeline's units, shown, installed, removed.

use super::args::{Places, ServiceAction, ServiceArgs};
use super::{print, refuse};
use crate::cli::run::say;
use crate::exit::Exit;
use crate::manage::find::find;
use crate::manage::systemd::{Systemd, SystemdError};
use crate::manage::units::{self, Units, service_name, timer_name};

pub(super) fn run(args: &ServiceArgs) -> Result<Exit, Exit> {
    let systemd = match &args.root {
        Some(root) => Systemd::of_image(root),
        None => Systemd::here(),
    };
    if args.root.is_none() && !args.print && !units::systemd_is_here() {
        let directory = args.dir.display();
        let error = format!(
            "systemd does not run this machine (there is no /run/systemd/system)\nwithout it: etl \
             serve {directory}; to see the units: --print; to install them into an image: --root DIR"
        );
        return Err(refuse(&error, Exit::SourceUnavailable));
    }
    match args.action {
        ServiceAction::Install => install(args, &systemd),
        ServiceAction::Uninstall => uninstall(args, &systemd),
    }
}

fn install(args: &ServiceArgs, systemd: &Systemd) -> Result<Exit, Exit> {
    let places = Places { dir: args.dir.clone(), data_dir: None };
    let (found, _) = places.find_good(&args.pipeline)?;
    let name = &found.name;
    let Ok(loaded) = &found.loaded else { return Err(Exit::Config) };
    let binary = std::env::current_exe().map_err(|error| refuse(&error, Exit::Internal))?;
    let units = units::units(loaded, &binary).map_err(|error| refuse(&error, Exit::Config))?;
    units.notes.iter().for_each(|note| say(&format!("note: {note}")));
    if args.print {
        print(&printed(name, &units));
        return Ok(Exit::Delivered);
    }
    let written = systemd.install(name, &units).map_err(|error| failed(&error))?;
    let mut text = String::new();
    for file in written {
        text.push_str(&format!("wrote  {}\n", file.display()));
    }
    if args.root.is_none() {
        text.push_str(&format!(
            "next   etl start {name}, etl logs {name} -f, journalctl -u etl-{name}\n"
        ));
    }
    print(&text);
    Ok(Exit::Delivered)
}

/// Both units, each after a line with its file's name.
fn printed(name: &str, units: &Units) -> String {
    let mut text = format!("# {}\n{}", service_name(name), units.service);
    if let Some(timer) = &units.timer {
        text.push_str(&format!("\n# {}\n{timer}", timer_name(name)));
    }
    text
}

fn uninstall(args: &ServiceArgs, systemd: &Systemd) -> Result<Exit, Exit> {
    // Its file may be gone, or wrong: a name is enough.
    let found = find(&args.dir, &args.pipeline);
    let name = found.map_or_else(|_| args.pipeline.clone(), |found| found.name);
    if !crate::config::is_name(&name) {
        return Err(refuse(&format!("`{name}` names no pipeline"), Exit::Usage));
    }
    if args.print {
        print(&format!("{}\n{}\n", service_name(&name), timer_name(&name)));
        return Ok(Exit::Delivered);
    }
    let removed = systemd.uninstall(&name).map_err(|error| failed(&error))?;
    if removed.is_empty() {
        say(&format!("{name} has no unit"));
        return Ok(Exit::Delivered);
    }
    let mut text = String::new();
    for file in removed {
        text.push_str(&format!("removed  {}\n", file.display()));
    }
    if args.root.is_none() {
        text.push_str(&format!(
            "kept     {}/{name}, {}\n",
            units::DATA_DIR,
            units::log_file(&name).display()
        ));
    }
    print(&text);
    Ok(Exit::Delivered)
}

fn failed(error: &SystemdError) -> Exit {
    refuse(error, Exit::SourceUnavailable)
}
