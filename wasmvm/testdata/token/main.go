// Command token is a contract in plain Go, without an SDK: balances of 8 bytes and a transfer between them. Its input
// is the raw 48 bytes from ‖ to ‖ amount.
package main

import (
	"encoding/binary"
	"unsafe"
)

//go:wasmimport fondaco_v1 input_read
func inputRead(dst unsafe.Pointer, off, limit uint32) uint32

//go:wasmimport fondaco_v1 get
func get(key unsafe.Pointer, keyLen uint32, dst unsafe.Pointer, limit uint32) int32

//go:wasmimport fondaco_v1 set
func set(key unsafe.Pointer, keyLen uint32, val unsafe.Pointer, valLen uint32)

//go:wasmimport fondaco_v1 abort
func abort(code uint32, ptr unsafe.Pointer, n uint32)

//go:wasmimport fondaco_v1 emit
func emit(topic unsafe.Pointer, topicLen uint32, data unsafe.Pointer, dataLen uint32)

//go:wasmexport fondaco_abi_1
func marker() {}

func balance(account []byte) uint64 {
	var b [8]byte
	if get(unsafe.Pointer(&account[0]), 20, unsafe.Pointer(&b[0]), 8) < 0 {
		return 0
	}
	return binary.BigEndian.Uint64(b[:])
}

func store(account []byte, v uint64) {
	b := binary.BigEndian.AppendUint64(nil, v)
	set(unsafe.Pointer(&account[0]), 20, unsafe.Pointer(&b[0]), 8)
}

//go:wasmexport transfer
func transfer() uint32 {
	var in [48]byte
	inputRead(unsafe.Pointer(&in[0]), 0, 48)
	from, to, amount := in[:20], in[20:40], binary.BigEndian.Uint64(in[40:])
	have := balance(from)
	if have < amount {
		abort(1001, nil, 0)
	}
	store(from, have-amount)
	store(to, balance(to)+amount)
	topic, data := []byte("transfer"), []byte{0x80}
	emit(unsafe.Pointer(&topic[0]), uint32(len(topic)), unsafe.Pointer(&data[0]), 1)
	return 0
}

//go:wasmexport mint
func mint() uint32 {
	var in [48]byte
	inputRead(unsafe.Pointer(&in[0]), 0, 48)
	store(in[:20], binary.BigEndian.Uint64(in[40:]))
	return 0
}

//go:wasmexport panics
func panics() uint32 {
	var in [48]byte
	return uint32(in[inputRead(unsafe.Pointer(&in[0]), 0, 48)+48])
}

func main() {}
