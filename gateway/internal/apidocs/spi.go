package apidocs

import _ "embed"

//go:embed spi.json
var spiDocument []byte

// NewSPI reads the document of the service provider interface; its arguments are those of New.
func NewSPI(publicURL, prefix string) (*Docs, error) {
	return load("/spi", spiDocument, publicURL, prefix)
}
