//! Groups over memory that the ranks of one machine share.

use std::time::Duration;

use crate::{Group, Result, Store};

impl Group {
    /// Meets the other ranks at the store, and shares memory with them: 2 MiB a rank, whatever the tensors' sizes.
    ///
    /// Every element is reduced once, by one rank and in the ranks' order, so that all ranks have the same bits. Calls
    /// are made in their order on a thread of the group, or on that of a caller who waits. A rank whose process ends is
    /// noticed within some 10 ms; calls that do not fit are an error on every rank. Nothing is left behind in the
    /// machine, however the ranks end.
    ///
    /// `connect` is for the meeting, `timeout` for every call.
    ///
    /// # Errors
    /// Timed out where a rank does not come. That the ranks are on different machines, in different network namespaces,
    /// or of different users; that this system is not Linux.
    pub fn shared_memory(
        store: &Store,
        rank: usize,
        size: usize,
        connect: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        #[cfg(shared_memory)]
        {
            use crate::error::{call, millis};
            use crate::{ffi, group::int};

            let (rank, size) = (int(rank)?, int(size)?);
            let (connect, timeout) = (millis(connect), millis(timeout));
            let mut out = std::ptr::null_mut();
            // SAFETY: the store outlives the call, the group holds it itself; `out` is written on OK.
            call(|message| unsafe {
                ffi::kf_group_shared_memory(store.raw(), rank, size, connect, timeout, &mut out, message)
            })?;
            Self::from_raw(out)
        }
        #[cfg(not(shared_memory))]
        {
            let _ = (store, rank, size, connect, timeout);
            Err(crate::Error::new("ranks share memory on Linux alone; use Gloo here"))
        }
    }
}

#[cfg(all(test, shared_memory))]
#[expect(clippy::unwrap_used, reason = "these are tests")]
mod tests {
    use std::fs::File;
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
    };
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::Reduction;

    const LONG: Duration = Duration::from_secs(30);

    /// Two ranks in two threads.
    fn two<T: Send>(body: impl Fn(usize, Store) -> T + Sync) -> [T; 2] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let _server = Store::serve(listener, LONG).unwrap();
        let (body, store) = (&body, || Store::connect("127.0.0.1", port, LONG).unwrap());
        thread::scope(|scope| {
            [0, 1].map(|rank| scope.spawn(move || body(rank, store()))).map(|rank| rank.join().unwrap())
        })
    }

    fn sum(group: &Group, elements: i64) -> Result<f64> {
        let mut tensor = Tensor::ones([elements], (Kind::Float, Device::Cpu));
        group.all_reduce(&mut tensor, Reduction::Sum)?.wait()?;
        Ok(tensor.double_value(&[elements - 1]))
    }

    #[test]
    fn a_rank_in_another_network_namespace_is_refused_by_all() {
        let errors = two(|rank, store| {
            if rank == 1 {
                // SAFETY: of this thread alone, which opens no descriptor by number.
                let moved = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) };
                if moved.is_err() {
                    eprintln!("this user may not make a network namespace: both ranks stay in one");
                    store.set("unmoved", b"").unwrap();
                }
                store.set("moved", b"").unwrap();
            }
            store.get("moved", LONG).unwrap();
            let unmoved = store.check("unmoved").unwrap();
            (unmoved, Group::shared_memory(&store, rank, 2, LONG, LONG).err().map(|error| error.to_string()))
        });
        for (unmoved, error) in errors {
            let text = error.unwrap_or_default();
            assert!(unmoved || text.contains("those of rank 0 and rank 1 are two"), "{text}");
        }
    }

    /// Whoever of this machine comes to the socket without knowing the store is let go, and the ranks meet.
    #[test]
    fn strangers_at_the_socket_are_let_go() {
        let sums = two(|rank, store| {
            let mut strangers = Vec::new();
            if rank == 1 {
                let place = String::from_utf8(store.get("place/0", LONG).unwrap()).unwrap();
                let secret = place.rsplit('\n').next().unwrap().to_owned();
                let address =
                    SocketAddrUnix::new_abstract_name(format!("kf-group-{}", &secret[..16]).as_bytes())
                        .unwrap();
                let greeting = |version: u64, rank: i32, size: i32, secret: &str| {
                    let mut bytes = version.to_ne_bytes().to_vec();
                    bytes.extend(rank.to_ne_bytes());
                    bytes.extend(size.to_ne_bytes());
                    bytes.extend(secret.as_bytes());
                    bytes
                };
                let version = 0x6b66_2d73_686d_0001;
                let wrong = "0".repeat(32);
                let greetings = [
                    b"?".to_vec(),
                    vec![0xff; 4096],
                    greeting(version, 1, 2, &wrong),
                    greeting(version + 1, 1, 2, &secret),
                    greeting(version, 0, 2, &secret),
                    greeting(version, 7, 2, &secret),
                    greeting(version, -1, 2, &secret),
                    greeting(version, 1, 3, &secret),
                ];
                strangers.extend(greetings.map(|bytes| {
                    let stranger = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
                    connect(&stranger, &address).unwrap();
                    send(&stranger, &bytes, SendFlags::NOSIGNAL).unwrap();
                    stranger
                }));
            }
            let group = Group::shared_memory(&store, rank, 2, LONG, LONG).unwrap();
            for stranger in strangers {
                // Closed on the other side.
                let got = recv(&stranger, &mut [0_u8; 8], RecvFlags::DONTWAIT).map(|(length, _)| length);
                assert!(matches!(got, Ok(0) | Err(rustix::io::Errno::CONNRESET)), "{got:?}");
            }
            sum(&group, 5).unwrap()
        });
        assert_eq!(sums, [2.0, 2.0]);
    }

    /// Whatever stands in the memory, calls come to an end, and nothing else is written to.
    #[test]
    fn rubbish_in_the_memory_hurts_nobody() {
        let over = AtomicBool::new(false);
        two(|rank, store| {
            for round in 0..40_u64 {
                let store = store.prefixed(&round.to_string()).unwrap();
                let timeout = Duration::from_millis(100);
                let group = Group::shared_memory(&store, rank, 2, LONG, timeout).unwrap();
                over.store(false, Ordering::SeqCst);
                thread::scope(|scope| {
                    if rank == 0 {
                        scope.spawn(|| {
                            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                            let memory = File::options().write(true).open("/proc/self/mem").unwrap();
                            let mut seed = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                            while !over.load(Ordering::SeqCst) {
                                for (begin, end) in ours(&maps) {
                                    seed ^= seed << 13;
                                    seed ^= seed >> 7;
                                    seed ^= seed << 17;
                                    // Mostly where the counters are.
                                    let span = if seed & 1 == 0 { 2048 } else { end - begin };
                                    let at = begin + (seed >> 8) % span / 8 * 8;
                                    let value = if seed & 2 == 0 { seed } else { seed >> 61 };
                                    // It may be unmapped already.
                                    let _ = memory.write_all_at(&value.to_ne_bytes(), at);
                                }
                            }
                        });
                    }
                    for elements in [1, 1000, 300_000] {
                        let began = Instant::now();
                        let _ = sum(&group, elements);
                        assert!(began.elapsed() < Duration::from_secs(20));
                    }
                    if rank == 0 {
                        over.store(true, Ordering::SeqCst);
                    }
                });
                drop(group);
                // Both are done with this round's memory.
                store.set(&format!("done/{rank}"), b"").unwrap();
                store.get(&format!("done/{}", 1 - rank), LONG).unwrap();
            }
        });
    }

    /// Where the groups' memory lies.
    fn ours(maps: &str) -> Vec<(u64, u64)> {
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        maps.lines()
            .filter(|line| line.contains("memfd:kf-group"))
            .filter_map(|line| {
                let (begin, end) = line.split_once(' ')?.0.split_once('-')?;
                Some((hex(begin)?, hex(end)?))
            })
            .collect()
    }
}
