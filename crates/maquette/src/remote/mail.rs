//! Mail that an environment has caught.

use super::{Session, now, path};
use crate::{cli::MailArgs, exit::Failure, render, screen};
use api::{MailList, MailMessageView};

pub(super) async fn run(session: &Session, args: MailArgs) -> Result<(), Failure> {
    let query = args
        .service
        .map_or_else(String::new, |service| format!("?service={service}"));
    let path = format!("{}/mail", path(&args.environment));
    match args.id {
        None => {
            let list: MailList = screen::while_doing("asking", session.api.get(&format!("{path}{query}"))).await?;
            session.answer(&list, |list| render::mail(&list.messages, now()))
        }
        Some(id) => {
            let asked = format!("{path}/{id}{query}");
            let message: MailMessageView = screen::while_doing("asking", session.api.get(&asked)).await?;
            session.answer(&message, render::mail_message)
        }
    }
}
