package skifftest

// Spellings are ways in which tars write the name etc/passwd. All of them mean that file.
var Spellings = []string{
	"etc/passwd", "./etc/passwd", "/etc/passwd", "etc//passwd", "etc/./passwd", "//etc/passwd", "././/etc/passwd", "/./etc/passwd", "etc/x/../passwd",
	"./etc/../etc/passwd",
}

// Climbing are names that would lead out of the root.
var Climbing = []string{"../etc/passwd", "/../etc/passwd", "./../etc/passwd", "etc/../../etc/passwd", "//../etc/passwd", "etc/x/../../../passwd", "..", "/.."}
