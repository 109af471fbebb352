module github.com/spectrumkv/libspectrumkv/bindings/go/purego

go 1.25.0

require (
	github.com/ebitengine/purego v0.11.3
	github.com/spectrumkv/libspectrumkv/bindings/go v0.1.0
)

replace github.com/spectrumkv/libspectrumkv/bindings/go => ../
