//! One comment, edited in place; one status.

use crate::World;
use forge::{CommitStatus, Forge, Marker, StatusState, marked};

fn marker() -> Marker {
    Marker::for_project(&"abc123".parse().unwrap(), &"shop".parse().unwrap())
}

#[tokio::test]
async fn our_comment_is_made_once_and_edited_in_place() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    let (forge, id, marker) = (&world.forge, &world.id, marker());
    assert_eq!(forge.comment_ours(id, number, &marker, None).await.unwrap(), None);

    let made = forge.comment_put(id, number, &marker, None, "starting").await.unwrap();
    let same = forge.comment_put(id, number, &marker, None, "starting").await.unwrap();
    let edited = forge
        .comment_put(id, number, &marker, Some(made.id), "**live**")
        .await
        .unwrap();
    assert_eq!((made.id, made.id), (same.id, edited.id));
    assert_eq!(
        forge.comment_ours(id, number, &marker, None).await.unwrap(),
        Some(edited)
    );
    let all = world.ada.comments(world.path(), number.0).await.unwrap();
    assert_eq!(all, [(world.bot.user().to_owned(), marked("**live**", &marker))]);
}

#[tokio::test]
async fn a_comment_of_another_account_with_our_mark_is_left_alone() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    let (forge, id, marker) = (&world.forge, &world.id, marker());
    let copied = marked("mine, not yours", &marker);
    let theirs = world.bob.comment(world.path(), number.0, &copied).await.unwrap();
    let ours = forge
        .comment_put(id, number, &marker, Some(forge::CommentId(theirs)), "live")
        .await
        .unwrap();
    assert_ne!(ours.id.0, theirs);
    let other = Marker::for_project(&"zzz999".parse().unwrap(), &"shop".parse().unwrap());
    let second = forge
        .comment_put(id, number, &other, None, "of another installation")
        .await
        .unwrap();
    assert_ne!(ours.id, second.id);
    let all = world.ada.comments(world.path(), number.0).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0], (world.bob.user().to_owned(), copied));
}

#[tokio::test]
async fn remarks_are_those_of_others_and_tell_who_was_edited() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    let (forge, id) = (&world.forge, &world.id);
    forge.comment_put(id, number, &marker(), None, "ours").await.unwrap();
    let first = world.ada.comment(world.path(), number.0, "One").await.unwrap();
    world.bob.comment(world.path(), number.0, "Two").await.unwrap();
    // Gitea tells times in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let path = format!("repos/{}/issues/comments/{first}", world.path());
    let body = serde_json::json!({ "body": "Another" });
    world.ada.call(reqwest::Method::PATCH, &path, body).await.unwrap();
    let found = forge.remarks(id, number).await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|remark| (remark.author.login.as_str(), remark.body.as_str(), remark.edited))
        .collect();
    assert_eq!(
        told,
        [(world.ada.user(), "Another", true), (world.bob.user(), "Two", false)]
    );
}

#[tokio::test]
async fn a_surplus_comment_of_an_interrupted_call_goes_and_a_deleted_one_comes_back() {
    let world = World::new().await;
    world.push("topic", "one");
    let number = world.open("topic").await;
    let (forge, id, marker) = (&world.forge, &world.id, marker());
    let first = world
        .bot
        .comment(world.path(), number.0, &marked("one", &marker))
        .await
        .unwrap();
    world
        .bot
        .comment(world.path(), number.0, &marked("two", &marker))
        .await
        .unwrap();
    let kept = forge.comment_put(id, number, &marker, None, "three").await.unwrap();
    assert_eq!(kept.id.0, first);
    assert_eq!(world.ada.comments(world.path(), number.0).await.unwrap().len(), 1);

    let path = format!("repos/{}/issues/comments/{first}", world.path());
    world
        .ada
        .call(reqwest::Method::DELETE, &path, serde_json::Value::Null)
        .await
        .unwrap();
    let again = forge
        .comment_put(id, number, &marker, Some(kept.id), "four")
        .await
        .unwrap();
    assert_ne!(again.id, kept.id);
    assert_eq!(world.ada.comments(world.path(), number.0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_known_comment_of_another_pull_request_is_not_taken_for_ours() {
    let world = World::new().await;
    world.push("one", "one");
    let one = world.open("one").await;
    world.push("two", "two");
    let two = world.open("two").await;
    let on_one = world
        .forge
        .comment_put(&world.id, one, &marker(), None, "text")
        .await
        .unwrap();
    let on_two = world
        .forge
        .comment_put(&world.id, two, &marker(), Some(on_one.id), "text")
        .await
        .unwrap();
    assert_ne!(on_one.id, on_two.id);
    assert_eq!(world.ada.comments(world.path(), one.0).await.unwrap().len(), 1);
    assert_eq!(world.ada.comments(world.path(), two.0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn our_status_is_set_and_a_long_description_is_cut() {
    let world = World::new().await;
    let commit = world.push("topic", "one");
    let id = commit.parse().unwrap();
    let status = |state, description: &str| CommitStatus {
        state,
        description: description.to_owned(),
        target: Some("http://pr-1.localhost:8080/".parse().unwrap()),
    };
    world
        .forge
        .status_set(&world.id, &id, &status(StatusState::Pending, &"long ".repeat(2000)))
        .await
        .unwrap();
    world
        .forge
        .status_set(&world.id, &id, &status(StatusState::Success, "live"))
        .await
        .unwrap();
    let mut all = world.ada.statuses(world.path(), &commit).await.unwrap();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].0.as_str(), all[0].1.as_str()), ("maquette", "pending"));
    assert!(all[0].2.starts_with("long long") && all[0].2.ends_with('…') && all[0].2.len() <= 140);
    assert_eq!(all[1], ("maquette".to_owned(), "success".to_owned(), "live".to_owned()));
}
