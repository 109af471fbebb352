module github.com/spectrumkv/libspectrumkv/bindings/go

go 1.24
