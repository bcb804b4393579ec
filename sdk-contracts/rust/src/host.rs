//! The host functions of fondaco_v1 (../abi.json), with slices in place of pointers and lengths.

mod imports {
    #[link(wasm_import_module = "fondaco_v1")]
    extern "C" {
        pub fn input_len() -> usize;
        pub fn input_read(dst: *mut u8, off: usize, cap: usize) -> usize;
        pub fn output(ptr: *const u8, len: usize);
        pub fn abort(code: u32, ptr: *const u8, len: usize);
        pub fn result_len() -> usize;
        pub fn result_read(dst: *mut u8, off: usize, cap: usize) -> usize;
        pub fn ctx(dst: *mut u8, cap: usize) -> i32;
        pub fn caller_attr(kind: u32, dst: *mut u8, cap: usize) -> i32;
        pub fn get(key: *const u8, key_len: usize, dst: *mut u8, cap: usize) -> i32;
        pub fn set(key: *const u8, key_len: usize, val: *const u8, val_len: usize);
        pub fn del(key: *const u8, key_len: usize);
        pub fn has(key: *const u8, key_len: usize) -> i32;
        pub fn add(key: *const u8, key_len: usize, delta: i64, min: i64, max: i64) -> i32;
        pub fn scan(start: *const u8, start_len: usize, end: *const u8, end_len: usize, flags: u32, limit: u32) -> u32;
        pub fn scan_next(it: u32, dst: *mut u8, cap: usize) -> i32;
        pub fn scan_close(it: u32);
        pub fn emit(topic: *const u8, topic_len: usize, data: *const u8, data_len: usize);
        pub fn call(
            to: *const u8, to_len: usize, method: *const u8, method_len: usize, args: *const u8, args_len: usize, gas: u64, flags: u32,
        ) -> i32;
        pub fn hash(alg: u32, ptr: *const u8, len: usize, dst: *mut u8, cap: usize) -> i32;
        pub fn verify(
            alg: u32, key: *const u8, key_len: usize, sig: *const u8, sig_len: usize, msg: *const u8, msg_len: usize,
        ) -> i32;
        pub fn rand(dst: *mut u8, len: usize);
        pub fn log(level: u32, ptr: *const u8, len: usize);
        pub fn gas_left() -> u64;
    }
}

/// Reads what a host function offers: into a buffer of the usual size, or from the result register if it is longer.
fn read(usual: usize, fill: impl FnOnce(*mut u8, usize) -> i32) -> Option<Vec<u8>> {
    let mut buffer = Vec::with_capacity(usual);
    let len = usize::try_from(fill(buffer.as_mut_ptr(), usual)).ok()?;
    if len > usual {
        buffer.reserve_exact(len);
        unsafe { imports::result_read(buffer.as_mut_ptr(), 0, len) };
    }
    unsafe { buffer.set_len(len) }; // the host wrote so many
    Some(buffer)
}

pub fn input() -> Vec<u8> {
    const USUAL: usize = 256;
    let mut buffer = Vec::with_capacity(USUAL);
    let mut len = unsafe { imports::input_read(buffer.as_mut_ptr(), 0, USUAL) };
    if len == USUAL {
        len = unsafe { imports::input_len() };
        buffer.reserve_exact(len);
        unsafe { imports::input_read(buffer.as_mut_ptr(), 0, len) };
    }
    unsafe { buffer.set_len(len) };
    buffer
}

pub fn output(data: &[u8]) {
    unsafe { imports::output(data.as_ptr(), data.len()) }
}

pub fn abort(code: u32, data: &[u8]) -> ! {
    unsafe { imports::abort(code, data.as_ptr(), data.len()) };
    core::arch::wasm32::unreachable() // abort does not return
}

pub fn ctx() -> Vec<u8> {
    read(512, |dst, cap| unsafe { imports::ctx(dst, cap) }).unwrap_or_default()
}

pub fn caller_attr(kind: u32) -> Option<Vec<u8>> {
    read(256, |dst, cap| unsafe { imports::caller_attr(kind, dst, cap) })
}

pub fn get(key: &[u8]) -> Option<Vec<u8>> {
    read(128, |dst, cap| unsafe { imports::get(key.as_ptr(), key.len(), dst, cap) })
}

pub fn set(key: &[u8], value: &[u8]) {
    unsafe { imports::set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub fn del(key: &[u8]) {
    unsafe { imports::del(key.as_ptr(), key.len()) }
}

pub fn has(key: &[u8]) -> bool {
    unsafe { imports::has(key.as_ptr(), key.len()) == 1 }
}

pub fn add(key: &[u8], delta: i64, least: i64, most: i64) -> bool {
    unsafe { imports::add(key.as_ptr(), key.len(), delta, least, most) == 0 }
}

pub fn scan(start: &[u8], end: &[u8], flags: u32, limit: u32) -> u32 {
    unsafe { imports::scan(start.as_ptr(), start.len(), end.as_ptr(), end.len(), flags, limit) }
}

pub fn scan_next(iterator: u32) -> Option<Vec<u8>> {
    read(256, |dst, cap| unsafe { imports::scan_next(iterator, dst, cap) })
}

pub fn scan_close(iterator: u32) {
    unsafe { imports::scan_close(iterator) }
}

pub fn emit(topic: &str, data: &[u8]) {
    unsafe { imports::emit(topic.as_ptr(), topic.len(), data.as_ptr(), data.len()) }
}

pub fn call(to: &[u8], method: &str, args: &[u8], gas: u64, flags: u32) -> (i32, Vec<u8>) {
    unsafe {
        let status = imports::call(to.as_ptr(), to.len(), method.as_ptr(), method.len(), args.as_ptr(), args.len(), gas, flags);
        let len = imports::result_len();
        let mut data = Vec::with_capacity(len);
        if len > 0 {
            imports::result_read(data.as_mut_ptr(), 0, len);
            data.set_len(len);
        }
        (status, data)
    }
}

pub fn hash(algorithm: u32, data: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    unsafe { imports::hash(algorithm, data.as_ptr(), data.len(), digest.as_mut_ptr(), digest.len()) };
    digest
}

pub fn verify(algorithm: crate::Signature, public: &[u8], signature: &[u8], digest: &[u8]) -> bool {
    let (key, sig, msg) = (public, signature, digest);
    unsafe { imports::verify(algorithm as u32, key.as_ptr(), key.len(), sig.as_ptr(), sig.len(), msg.as_ptr(), msg.len()) == 1 }
}

pub fn rand(bytes: &mut [u8]) {
    unsafe { imports::rand(bytes.as_mut_ptr(), bytes.len()) }
}

pub fn log(level: u32, text: &str) {
    unsafe { imports::log(level, text.as_ptr(), text.len()) }
}

pub fn gas_left() -> u64 {
    unsafe { imports::gas_left() }
}
