use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn key() -> impl Strategy<Value = Arc<str>> {
    "[a-z/é]{0,12}".prop_map(|key| key.into())
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 20_000..20_010)].prop_map(Bytes::from)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<u32>().prop_map(Request::Ping),
        (key(), value()).prop_map(|(key, value)| Request::Set { key, value }),
        (key(), value(), value()).prop_map(|(key, expected, desired)| Request::CompareSet {
            key,
            expected,
            desired
        }),
        key().prop_map(|key| Request::Get { key }),
        (key(), any::<i64>()).prop_map(|(key, amount)| Request::Add { key, amount }),
        vec(key(), 0..5).prop_map(|keys| Request::Check { keys }),
        vec(key(), 0..5).prop_map(|keys| Request::Wait { keys }),
        Just(Request::CancelWait),
        Just(Request::GetNumKeys),
        key().prop_map(|key| Request::DeleteKey { key }),
        (key(), value()).prop_map(|(key, value)| Request::Append { key, value }),
        vec(key(), 0..5).prop_map(|keys| Request::MultiGet { keys }),
        vec((key(), value()), 0..5).prop_map(|entries| Request::MultiSet { entries }),
        (key(), value()).prop_map(|(queue, value)| Request::QueuePush { queue, value }),
        key().prop_map(|queue| Request::QueuePop { queue }),
        key().prop_map(|queue| Request::QueueLen { queue }),
        Just(Request::ListKeys),
    ]
}

/// Feeds bytes in pieces, and reads all there is after each.
fn fed<T>(bytes: &[u8], piece: usize, mut next: impl FnMut(&mut BytesMut) -> Option<T>) -> Vec<T> {
    let mut buffer = BytesMut::new();
    let mut read = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        read.extend(std::iter::from_fn(|| next(&mut buffer)));
    }
    assert!(buffer.is_empty());
    read
}

proptest! {
    #[test]
    fn requests_are_read_however_they_arrive(requests in vec(request(), 1..8), piece in 1..5000usize) {
        let mut bytes = BytesMut::new();
        Request::Validate(MAGIC).encode(&mut bytes);
        requests.iter().for_each(|request| request.encode(&mut bytes));
        let mut reader = RequestReader::default();
        prop_assert_eq!(fed(&bytes, piece, |buffer| reader.next(buffer).unwrap()), requests);
    }

    #[test]
    fn answers_are_read_however_they_arrive(values in vec(value(), 0..4), keys in vec(key(), 0..4), number: i64, piece in 1..5000usize) {
        let names = || Request::MultiGet { keys: vec!["a".into(); values.len()] };
        let name: Arc<str> = "a".into();
        let pairs = [
            (Request::Ping(1), Answer::Pong(number as u32)),
            (Request::Get { key: name.clone() }, Answer::Value(values.first().cloned().unwrap_or_default())),
            (names(), Answer::Values(values.clone())),
            (Request::GetNumKeys, Answer::Number(number)),
            (Request::Check { keys: vec![] }, Answer::Ready(number > 0)),
            (Request::Wait { keys: vec![] }, Answer::Stopped),
            (Request::CancelWait, Answer::Canceled),
            (Request::QueuePop { queue: name }, Answer::Popped(values.len() as i64, values.first().cloned())),
            (Request::ListKeys, Answer::Keys(keys)),
        ];
        for (request, answer) in pairs {
            let bytes = answer.clone().encode().concat();
            let mut reader = AnswerReader::of(&request).unwrap();
            let mut buffer = BytesMut::new();
            let mut read = reader.next(&mut buffer).unwrap();
            for piece in bytes.chunks(piece) {
                prop_assert!(read.is_none());
                buffer.extend_from_slice(piece);
                read = reader.next(&mut buffer).unwrap();
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(read, Some(answer));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(prop_oneof![0..18u8, any::<u8>(), Just(0)], 0..200), piece in 1..50usize) {
        let mut validated = BytesMut::new();
        Request::Validate(MAGIC).encode(&mut validated);
        for start in [&b""[..], &validated] {
            let bytes = [start, &bytes].concat();
            let mut reader = RequestReader::default();
            let mut buffer = BytesMut::new();
            'fed: for piece in bytes.chunks(piece) {
                buffer.extend_from_slice(piece);
                loop {
                    match reader.next(&mut buffer) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'fed,
                    }
                }
                prop_assert!(reader.kept() <= 70 * bytes.len());
            }
        }
        for request in [Request::ListKeys, Request::QueuePop { queue: "".into() }, Request::CancelWait] {
            let _ = AnswerReader::of(&request).unwrap().next(&mut BytesMut::from(&bytes[..]));
        }
    }
}

fn refusal(query: u8, fields: &[&[u8]]) -> String {
    let mut buffer = BytesMut::new();
    Request::Validate(MAGIC).encode(&mut buffer);
    buffer.put_u8(query);
    fields.iter().for_each(|field| buffer.extend_from_slice(field));
    RequestReader::default().next(&mut buffer).unwrap_err().to_string()
}

#[test]
fn what_is_too_large_is_refused_before_it_arrives() {
    let huge = u64::MAX.to_ne_bytes();
    for query in [1, 2, 3, 4, 8, 9, 14, 15, 16] {
        assert!(refusal(query, &[&huge]).contains("bytes of a key, expected at most 8192"), "{query}");
    }
    for query in [5, 6, 10, 11] {
        assert!(refusal(query, &[&huge]).contains("keys, expected at most 131072"), "{query}");
    }
    let named = [&1u64.to_ne_bytes()[..], b"a"].concat();
    assert!(refusal(1, &[&named, &huge]).contains("bytes of a value, expected at most 67108864"));
    assert_eq!(refusal(18, &[]), "request type 18, expected one of 0 to 17");
    assert_eq!(refusal(0, &[]), "a second VALIDATE");
    assert!(refusal(3, &[&1u64.to_ne_bytes(), b"\xff"]).contains("no UTF-8"));
    let key = [&8000u64.to_ne_bytes()[..], &[b'a'; 8000]].concat();
    let many: Vec<u8> = key.repeat(2000);
    assert!(refusal(6, &[&2000u64.to_ne_bytes(), &many]).contains("Wait of more than"));
}

#[test]
fn a_stranger_is_refused() {
    let refusal = |bytes: &[u8]| RequestReader::default().next(&mut bytes.into()).unwrap_err().to_string();
    assert!(refusal(b"GET / HTTP/1.1\r\n").contains("71, expected one of 0 to 17"));
    assert!(refusal(&[3]).contains("Get first, expected VALIDATE"));
    assert!(refusal(&[0, 1, 2, 3, 4]).contains("expected 0x3c85f7ce"));
}
