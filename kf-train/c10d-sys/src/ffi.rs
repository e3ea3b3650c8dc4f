//! The C interface of `shim`.

use std::ffi::{c_char, c_int, c_void};

/// libtorch's `at::Tensor`, which tch points to.
#[repr(C)]
pub(crate) struct AtTensor {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct KfStore {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct KfBytes {
    pub(crate) at: *const u8,
    pub(crate) length: usize,
}

#[repr(C)]
pub(crate) struct KfRequest {
    pub(crate) kind: c_int,
    pub(crate) keys: *const KfBytes,
    pub(crate) keys_count: usize,
    pub(crate) values: *const KfBytes,
    pub(crate) values_count: usize,
    pub(crate) amount: i64,
    pub(crate) timeout_ms: i64,
}

pub(crate) const STORE_SET: c_int = 0;
pub(crate) const STORE_GET: c_int = 1;
pub(crate) const STORE_WAIT: c_int = 2;
pub(crate) const STORE_CHECK: c_int = 3;
pub(crate) const STORE_ADD: c_int = 4;
pub(crate) const STORE_COMPARE_SET: c_int = 5;
pub(crate) const STORE_APPEND: c_int = 6;
pub(crate) const STORE_DELETE: c_int = 7;
pub(crate) const STORE_COUNT: c_int = 8;

pub(crate) type KfGive = unsafe extern "C" fn(sink: *mut c_void, bytes: *const u8, length: usize);

#[repr(C)]
pub(crate) struct KfKeyValue {
    pub(crate) call: extern "C" fn(
        context: *mut c_void,
        request: *const KfRequest,
        number: *mut i64,
        sink: *mut c_void,
        give: KfGive,
    ) -> c_int,
    pub(crate) again: extern "C" fn(context: *mut c_void, sink: *mut c_void, give: KfGive) -> *mut c_void,
    pub(crate) drop: extern "C" fn(context: *mut c_void),
}

#[repr(C)]
pub(crate) struct KfGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct KfReducer {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct KfWork {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct KfAborter {
    _opaque: [u8; 0],
}

pub(crate) const OK: c_int = 0;
pub(crate) const FAILED: c_int = 1;
pub(crate) const TIMED_OUT: c_int = 2;

unsafe extern "C" {
    pub(crate) fn kf_message_free(message: *mut c_char);
    pub(crate) fn kf_bytes_free(bytes: *mut u8);

    pub(crate) fn kf_store_tcp(
        host: *const c_char,
        port: u16,
        is_server: c_int,
        listen_fd: c_int,
        timeout_ms: i64,
        out: *mut *mut KfStore,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_store_of(
        calls: *const KfKeyValue,
        context: *mut c_void,
        timeout_ms: i64,
        out: *mut *mut KfStore,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_store_prefixed(
        store: *const KfStore,
        prefix: *const c_char,
        out: *mut *mut KfStore,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_store_free(store: *mut KfStore);
    pub(crate) fn kf_store_set(
        store: *const KfStore,
        key: *const c_char,
        bytes: *const u8,
        length: usize,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_store_get(
        store: *const KfStore,
        key: *const c_char,
        timeout_ms: i64,
        bytes: *mut *mut u8,
        length: *mut usize,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_store_check(
        store: *const KfStore,
        key: *const c_char,
        exists: *mut c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_store_add(
        store: *const KfStore,
        key: *const c_char,
        amount: i64,
        sum: *mut i64,
        message: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn kf_group_gloo(
        store: *const KfStore,
        rank: c_int,
        size: c_int,
        address: *const c_char,
        is_interface: c_int,
        connect_ms: i64,
        timeout_ms: i64,
        out: *mut *mut KfGroup,
        message: *mut *mut c_char,
    ) -> c_int;
    #[cfg(shared_memory)]
    pub(crate) fn kf_group_shared_memory(
        store: *const KfStore,
        rank: c_int,
        size: c_int,
        connect_ms: i64,
        timeout_ms: i64,
        out: *mut *mut KfGroup,
        message: *mut *mut c_char,
    ) -> c_int;
    #[cfg(libtorch_has_nccl)]
    pub(crate) fn kf_gpus(count: *mut usize, message: *mut *mut c_char) -> c_int;
    #[cfg(libtorch_has_nccl)]
    pub(crate) fn kf_group_nccl(
        store: *const KfStore,
        rank: c_int,
        size: c_int,
        gpu: c_int,
        connect_ms: i64,
        timeout_ms: i64,
        out: *mut *mut KfGroup,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_free(group: *mut KfGroup);
    pub(crate) fn kf_group_begin(group: *const KfGroup, message: *mut *mut c_char) -> c_int;
    pub(crate) fn kf_group_end(group: *const KfGroup, failed: c_int, message: *mut *mut c_char) -> c_int;
    pub(crate) fn kf_group_broadcast(
        group: *const KfGroup,
        tensor: *mut AtTensor,
        root: c_int,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_all_reduce(
        group: *const KfGroup,
        tensor: *mut AtTensor,
        op: c_int,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_reduce(
        group: *const KfGroup,
        tensor: *mut AtTensor,
        root: c_int,
        op: c_int,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_all_gather(
        group: *const KfGroup,
        output: *mut AtTensor,
        input: *mut AtTensor,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_reduce_scatter(
        group: *const KfGroup,
        output: *mut AtTensor,
        input: *mut AtTensor,
        op: c_int,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_gather(
        group: *const KfGroup,
        output: *mut AtTensor,
        input: *mut AtTensor,
        root: c_int,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_scatter(
        group: *const KfGroup,
        output: *mut AtTensor,
        input: *mut AtTensor,
        root: c_int,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_all_to_all(
        group: *const KfGroup,
        output: *mut AtTensor,
        input: *mut AtTensor,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_messenger(
        group: *const KfGroup,
        out: *mut *mut KfGroup,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_messenger_free(messenger: *mut KfGroup);
    pub(crate) fn kf_group_send(
        group: *const KfGroup,
        tensor: *mut AtTensor,
        to: c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_recv(
        group: *const KfGroup,
        tensor: *mut AtTensor,
        from: c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_barrier(
        group: *const KfGroup,
        work: *mut *mut KfWork,
        message: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn kf_work_free(work: *mut KfWork);
    pub(crate) fn kf_work_done(work: *const KfWork) -> c_int;
    pub(crate) fn kf_work_wait(work: *mut KfWork, message: *mut *mut c_char) -> c_int;
    pub(crate) fn kf_work_then(
        work: *const KfWork,
        wake: extern "C" fn(*mut c_void),
        drop: extern "C" fn(*mut c_void),
        context: *mut c_void,
        message: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn kf_reducer_new(
        group: *const KfGroup,
        parameters: *const *mut AtTensor,
        names: *const *const c_char,
        count: usize,
        first_bucket_bytes: i64,
        bucket_bytes: i64,
        find_unused: c_int,
        gradient_views: c_int,
        compression: c_int,
        out: *mut *mut KfReducer,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_reducer_free(reducer: *mut KfReducer);
    pub(crate) fn kf_reducer_prepare(
        reducer: *mut KfReducer,
        loss: *mut AtTensor,
        divisor: i64,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_reducer_shadow(
        reducer: *mut KfReducer,
        divisor: i64,
        message: *mut *mut c_char,
    ) -> c_int;

    pub(crate) fn kf_group_make_replaceable(group: *mut KfGroup, message: *mut *mut c_char) -> c_int;
    pub(crate) fn kf_group_replace(
        group: *mut KfGroup,
        other: *mut KfGroup,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_group_failure(
        group: *const KfGroup,
        failure: *mut *mut c_char,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_aborter_new(
        group: *const KfGroup,
        out: *mut *mut KfAborter,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_aborter_abort(
        aborter: *const KfAborter,
        reason: *const c_char,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_aborter_free(aborter: *mut KfAborter);

    pub(crate) fn kf_adam_step(
        parameters: *const *mut AtTensor,
        gradients: *const *mut AtTensor,
        first: *const *mut AtTensor,
        second: *const *mut AtTensor,
        largest: *const *mut AtTensor,
        steps: *const i64,
        count: usize,
        lr: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        eps: f64,
        decoupled: c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_sgd_step(
        parameters: *const *mut AtTensor,
        gradients: *const *mut AtTensor,
        buffers: *const *mut AtTensor,
        count: usize,
        lr: f64,
        momentum: f64,
        dampening: f64,
        decay: f64,
        nesterov: c_int,
        first: c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_gradients_forget(
        parameters: *const *mut AtTensor,
        count: usize,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_unscale(
        gradients: *const *mut AtTensor,
        count: usize,
        scale: f64,
        finite: *mut c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_autocast_begin(
        cuda: c_int,
        kind: c_int,
        enabled_before: *mut c_int,
        kind_before: *mut c_int,
        message: *mut *mut c_char,
    ) -> c_int;
    pub(crate) fn kf_autocast_end(
        cuda: c_int,
        enabled_before: c_int,
        kind_before: c_int,
        message: *mut *mut c_char,
    ) -> c_int;
}
