// Package gotoolchain finds released Go toolchains and proves them. [Toolchains.Resolve] says which release a tag means, by the list of
// the module proxy; [Toolchains.Get] gives its files, from the state, the module cache of this machine, the machine's own GOROOT or by
// download. Each toolchain is one version of the module golang.org/toolchain, so the checksum database tells whether it is the released
// one: the files are hashed while they are first read, and a wrong checksum is an error at their end.
//
// Nothing here knows what the files are used for; internal/gobase makes a layer of them. Records and zips are kept in a [State].
package gotoolchain
