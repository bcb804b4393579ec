//go:build wasip1 && wasm

package sdk

import "unsafe"

// The host functions of fondaco_v1 (../abi.json), and slices in place of pointers and lengths.

func hostCtx(dst []byte) int32 { return wasmCtx(pointer(dst), len32(dst)) }

func hostCallerAttr(kind uint32, dst []byte) int32 {
	return wasmCallerAttr(kind, pointer(dst), len32(dst))
}

func hostInputLen() uint32 { return wasmInputLen() }

func hostInputRead(dst []byte) { wasmInputRead(pointer(dst), 0, len32(dst)) }

func hostOutput(data []byte) { wasmOutput(pointer(data), len32(data)) }

func hostAbort(code uint32, data []byte) {
	wasmAbort(code, pointer(data), len32(data))
	panic("abort returned")
}

func hostResultLen() uint32 { return wasmResultLen() }

func hostResultRead(dst []byte) { wasmResultRead(pointer(dst), 0, len32(dst)) }

func hostGet(key, dst []byte) int32 {
	return wasmGet(pointer(key), len32(key), pointer(dst), len32(dst))
}

func hostSet(key, value []byte) {
	wasmSet(pointer(key), len32(key), pointer(value), len32(value))
}

func hostDel(key []byte) { wasmDel(pointer(key), len32(key)) }

func hostHas(key []byte) bool { return wasmHas(pointer(key), len32(key)) == 1 }

func hostAdd(key []byte, delta, least, most int64) int32 {
	return wasmAdd(pointer(key), len32(key), delta, least, most)
}

func hostScan(start, end []byte, flags, limit uint32) uint32 {
	return wasmScan(pointer(start), len32(start), pointer(end), len32(end), flags, limit)
}

func hostScanNext(it uint32, dst []byte) int32 { return wasmScanNext(it, pointer(dst), len32(dst)) }

func hostScanClose(it uint32) { wasmScanClose(it) }

func hostEmit(topic string, data []byte) {
	wasmEmit(unsafe.Pointer(unsafe.StringData(topic)), uint32(len(topic)), pointer(data), len32(data))
}

func hostCall(to []byte, method string, args []byte, gas uint64, flags uint32) int32 {
	return wasmCall(pointer(to), len32(to), unsafe.Pointer(unsafe.StringData(method)), uint32(len(method)),
		pointer(args), len32(args), gas, flags)
}

func hostHash(algorithm uint32, data, dst []byte) {
	wasmHash(algorithm, pointer(data), len32(data), pointer(dst), len32(dst))
}

func hostVerify(algorithm uint32, public, signature, digest []byte) uint32 {
	return wasmVerify(algorithm, pointer(public), len32(public), pointer(signature), len32(signature), pointer(digest), len32(digest))
}

func hostRand(dst []byte) { wasmRand(pointer(dst), len32(dst)) }

func hostLog(level uint32, text string) {
	wasmLog(level, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

func hostGasLeft() uint64 { return wasmGasLeft() }

// pointer returns the address of data for the host.
func pointer(data []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(data)) }

func len32(data []byte) uint32 { return uint32(len(data)) }

// rethrow is for panics that only the tests' host makes.
func rethrow(any) {}

func encodeEvent(e any) (topic string, data []byte) {
	g, ok := e.(generatedEvent)
	if !ok {
		Abort(CodePanic, "the event is not a struct of the contract's package, given by value")
	}
	return g.ChainTopic(), g.AppendCBOR(scratch.write[:0])
}

// The builder adds codecs to all types that its checks let through, so these are not reached.

func appendOther([]byte, any) []byte { panic("a type without a codec") }

func decodeOther(*Decoder, any) { panic("a type without a codec") }

func appendKeyOther([]byte, any) []byte { panic("a key type without a codec") }

func decodeKeyOther([]byte, any) ([]byte, bool) { panic("a key type without a codec") }

//go:wasmimport fondaco_v1 ctx
//go:noescape
func wasmCtx(dst unsafe.Pointer, capacity uint32) int32

//go:wasmimport fondaco_v1 caller_attr
//go:noescape
func wasmCallerAttr(kind uint32, dst unsafe.Pointer, capacity uint32) int32

//go:wasmimport fondaco_v1 input_len
func wasmInputLen() uint32

//go:wasmimport fondaco_v1 input_read
//go:noescape
func wasmInputRead(dst unsafe.Pointer, off, capacity uint32) uint32

//go:wasmimport fondaco_v1 output
//go:noescape
func wasmOutput(data unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 abort
//go:noescape
func wasmAbort(code uint32, data unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 result_len
func wasmResultLen() uint32

//go:wasmimport fondaco_v1 result_read
//go:noescape
func wasmResultRead(dst unsafe.Pointer, off, capacity uint32) uint32

//go:wasmimport fondaco_v1 get
//go:noescape
func wasmGet(key unsafe.Pointer, keyLen uint32, dst unsafe.Pointer, capacity uint32) int32

//go:wasmimport fondaco_v1 set
//go:noescape
func wasmSet(key unsafe.Pointer, keyLen uint32, value unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 del
//go:noescape
func wasmDel(key unsafe.Pointer, keyLen uint32)

//go:wasmimport fondaco_v1 has
//go:noescape
func wasmHas(key unsafe.Pointer, keyLen uint32) uint32

//go:wasmimport fondaco_v1 add
//go:noescape
func wasmAdd(key unsafe.Pointer, keyLen uint32, delta, least, most int64) int32

//go:wasmimport fondaco_v1 scan
//go:noescape
func wasmScan(start unsafe.Pointer, startLen uint32, end unsafe.Pointer, endLen, flags, limit uint32) uint32

//go:wasmimport fondaco_v1 scan_next
//go:noescape
func wasmScanNext(it uint32, dst unsafe.Pointer, capacity uint32) int32

//go:wasmimport fondaco_v1 scan_close
func wasmScanClose(it uint32)

//go:wasmimport fondaco_v1 emit
//go:noescape
func wasmEmit(topic unsafe.Pointer, topicLen uint32, data unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 call
//go:noescape
func wasmCall(to unsafe.Pointer, toLen uint32, method unsafe.Pointer, methodLen uint32, args unsafe.Pointer, argsLen uint32, gas uint64, flags uint32) int32

//go:wasmimport fondaco_v1 hash
//go:noescape
func wasmHash(algorithm uint32, data unsafe.Pointer, n uint32, dst unsafe.Pointer, capacity uint32) uint32

//go:wasmimport fondaco_v1 verify
//go:noescape
func wasmVerify(algorithm uint32, public unsafe.Pointer, publicLen uint32, signature unsafe.Pointer, signatureLen uint32, digest unsafe.Pointer, digestLen uint32) uint32

//go:wasmimport fondaco_v1 rand
//go:noescape
func wasmRand(dst unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 log
//go:noescape
func wasmLog(level uint32, text unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 gas_left
func wasmGasLeft() uint64

//go:wasmexport fondaco_abi_1
func marker() {}
