// Package torture damages states of skiff and kills builds, and holds what comes of it against a state that nothing happened to: no
// image is ever another one, no name is lost, and what cannot be mended says what to do. It is tests alone, which drive the command.
//
// SKIFF_TORTURE says how much: unset is a few seconds, "middle" some minutes, "full" the numbers that the project promises (500
// flips, 200 truncations, 300 removals, 1,000 kills, 50 sizes of a full disk). SKIFF_TORTURE_SEED is the seed of what is random.
package torture
