//! `etl generate`: makes a pipeline and says what comes next.

use super::args::GenerateArgs;
use super::{print, refuse};
use crate::exit::Exit;
use crate::manage::find::DIRECTORY;
use crate::manage::generate::{GenerateError, generate};

pub(super) fn run(args: &GenerateArgs) -> Result<Exit, Exit> {
    let written = generate(&args.dir, &args.name, args.template).map_err(|error| {
        let exit = match error {
            GenerateError::Name(_) | GenerateError::Exists(_) => Exit::Usage,
            GenerateError::Write { .. } => Exit::Internal,
        };
        refuse(&error, exit)
    })?;
    let mut text = String::new();
    for file in &written {
        text.push_str(&format!("wrote  {}\n", file.display()));
    }
    let (name, directory) = (&args.name, args.dir.join(&args.name));
    let directory = directory.display();
    let elsewhere = match args.dir.as_os_str() == DIRECTORY {
        true => String::new(),
        false => format!(" --dir {}", args.dir.display()),
    };
    let unit = match args.template.is_served() {
        true => String::new(),
        false => format!("etl service install {name}{elsewhere}, or "),
    };
    text.push_str(&format!(
        "next   install -m 600 {directory}/.env.template {directory}/.env     and fill it in\n       \
         etl doctor {directory}/pipeline.yaml\n       \
         etl run {directory}/pipeline.yaml, or for good: {unit}etl serve {}\n",
        args.dir.display()
    ));
    print(&text);
    Ok(Exit::Delivered)
}
