package main

import (
	"math"
	"testing"
)

func TestExponent(t *testing.T) {
	for _, want := range []float64{0, 1, 2} {
		var x, y []float64
		for _, n := range []float64{10, 100, 1000} {
			x, y = append(x, n), append(y, 3*math.Pow(n, want))
		}
		if got := exponent(x, y); math.Abs(got-want) > 1e-9 {
			t.Errorf("exponent of n^%v: %v", want, got)
		}
	}
}

func TestMedian(t *testing.T) {
	if got := (figures{seconds: []float64{9, 1, 2}}).median(); got != 2 {
		t.Errorf("median of three: %v", got)
	}
	if got := (figures{seconds: []float64{4, 1, 2, 9}}).median(); got != 3 {
		t.Errorf("median of four: %v", got)
	}
}
