//! `bare-loop URL COUNT WORKERS FOLDER [--digest]`: fetches `URL/0.pdf` and on with so many tasks and writes each into the
//! folder, and nothing else. What longhaul is measured against.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's process fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, count, workers, folder, rest @ ..] = &arguments[..] else {
        panic!("usage: bare-loop URL COUNT WORKERS FOLDER [--digest]")
    };
    let (count, workers): (usize, usize) = (count.parse().unwrap(), workers.parse().unwrap());
    let (folder, digest) = (PathBuf::from(folder), rest.iter().any(|flag| flag == "--digest"));
    std::fs::create_dir_all(&folder).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (url, folder, client, next) = (url.clone(), folder.clone(), client.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    break;
                }
                let name = format!("{number}.pdf");
                let mut response =
                    client.get(format!("{url}/{name}")).send().await.unwrap().error_for_status().unwrap();
                let mut file = tokio::fs::File::create(folder.join(&name)).await.unwrap();
                let mut hash = Sha256::new();
                while let Some(chunk) = response.chunk().await.unwrap() {
                    if digest {
                        hash.update(&chunk);
                    }
                    file.write_all(&chunk).await.unwrap();
                }
                file.flush().await.unwrap();
                std::hint::black_box(hash.finalize());
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("each file is fetched");
    }
}
