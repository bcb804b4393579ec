// Command signer-pkcs11 is a signer (package node/signer) whose key is in a device that speaks PKCS#11: a hardware security module, a smart card.
// Modules are C libraries, so it is built with cgo, and is a program of its own: the node needs no C.
package main
