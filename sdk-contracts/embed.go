// Package contracts holds the contract ABI as data and the sources of the contract SDKs, so that the fondaco
// binary can write them into an author's project: a contract then builds without a network.
package contracts

import "embed"

// Sources holds abi.json and the SDKs, each in the folder of its language.
//
//go:embed abi.json go/*.go c/*.h rust/Cargo.toml rust/src/*.rs rust/macros/Cargo.toml rust/macros/src/*.rs as/asconfig.json as/package.json as/*.mjs as/lib/*.ts as/lib/fondaco/*.ts
var Sources embed.FS
