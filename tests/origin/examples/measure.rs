//! Measures the origin itself: how far its latency is off with forty requests at once, and how many requests a
//! second it answers. `cargo run --release -p longhaul-origin --example measure`
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use longhaul_origin::{Answer, HostConfig, Origin, OriginConfig, Shape};

const LATENCY: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let slow = Answer { latency_ms: LATENCY.as_millis() as u64, ..Answer::document(Shape::pdf(4096)) };
    let fast = Answer::document(Shape::pdf(4096));
    let hosts = [HostConfig::answering("slow", slow), HostConfig::answering("fast", fast)];
    let origin = Origin::start(OriginConfig::new(hosts)).await?;

    let mut out = io::stdout();
    let evenly = LATENCY / 40;
    for (name, clients, apart) in
        [("alone", 1, evenly), ("40, evenly spread", 40, evenly), ("40, in lockstep", 40, Duration::ZERO)]
    {
        let (_, mut late) = ask(origin.address("slow"), clients, 50, apart)?;
        for time in &mut late {
            *time = time.saturating_sub(LATENCY);
        }
        late.sort_unstable();
        let mean = late.iter().sum::<Duration>() / late.len() as u32;
        let at = |share: usize| late[(late.len() - 1) * share / 100];
        let (median, most, worst) = (at(50), at(99), at(100));
        writeln!(
            out,
            "latency, {name}: late by {mean:?} on average, median {median:?}, 99 % {most:?}, worst {worst:?}"
        )?;
    }
    let (wall, times) = ask(origin.address("fast"), 8, 5000, Duration::ZERO)?;
    writeln!(out, "throughput, 8 at once: {:.0} requests/s", times.len() as f64 / wall.as_secs_f64())?;
    Ok(())
}

/// So many clients at once, each with so many requests on one connection, and each beginning this much after the one
/// before: the time for all, and for each request as its client sees it.
fn ask(
    address: SocketAddr,
    clients: usize,
    requests: usize,
    apart: Duration,
) -> io::Result<(Duration, Vec<Duration>)> {
    let start = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            thread::spawn(move || {
                // tidy:allow-sleep: an example that measures how late a real timer is
                thread::sleep(apart * client as u32);
                one(address, client, requests)
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.join().map_err(|_| io::Error::other("a client panicked"))??);
    }
    Ok((start.elapsed(), times))
}

fn one(address: SocketAddr, client: usize, requests: usize) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut times = Vec::with_capacity(requests);
    for n in 0..requests {
        let start = Instant::now();
        stream.write_all(format!("GET /{client}/{n} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
        let mut filled = 0;
        while !buffer[..filled].ends_with(b"%%EOF\n") {
            filled += match stream.read(&mut buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => count,
            };
        }
        times.push(start.elapsed());
    }
    Ok(times)
}
