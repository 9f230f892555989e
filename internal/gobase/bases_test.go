package gobase

import "testing"

// TestLayerNames: what is unpacked has a name that says what it is; progress shows it.
func TestLayerNames(t *testing.T) {
	layers, err := NewBases(nil).Layers(t.Context(), "gobase://1.26.8/alpine/arm64")
	if err != nil || len(layers) != 2 || layers[0].Name != "the Go toolchain 1.26.8 for linux/arm64" || layers[1].Name == "" {
		t.Errorf("%+v, %v", layers, err)
	}
}
