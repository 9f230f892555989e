// Package whiteout reads and writes the marks by which a layer directory, in the form of an overlayfs
// upper directory mounted with userxattr, says what of the layers below it hides.
//
//   - A whiteout hides one name: a character device with number 0:0. Any user may make one on most file
//     systems since Linux 5.8, but nobody on an overlayfs, nor on some network file systems. There a
//     marker stands in: an empty regular file with [MarkerXattr]; the root of a layer that has any
//     carries [MarkedXattr]. The kernel has markers of its own kind (overlayfs.rst, "Nested overlayfs
//     mounts"), but only since Linux 6.7, and cannot remove a directory that holds one (seen in 6.18).
//     So it is shown real whiteouts from another place instead: see snapshot.
//   - An opaque directory hides all that was in a directory of that name: [OpaqueXattr] is "y".
//
// Steps cannot make any of these marks: overlayfs keeps user.overlay.* to itself, and refuses the device.
package whiteout

const (
	// OpaqueXattr is "y" on an opaque directory.
	OpaqueXattr = "user.overlay.opaque"
	// MarkerXattr is on an empty file that stands for a whiteout.
	MarkerXattr = "user.overlay.whiteout"
	// MarkedXattr is on the root directory of a layer that contains markers.
	MarkedXattr = "user.overlay.skiff.marked"
)
