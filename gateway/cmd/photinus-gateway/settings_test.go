package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSettingsThatDoNotWork(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                                      "-core is required",
		"-core unix:a extra":                    `unexpected argument "extra"`,
		"-core unix:a -path-prefix m0":          "-path-prefix must begin with a slash",
		"-core unix:a -path-prefix /m0/":        "-path-prefix must begin with a slash",
		"-core unix:a -tls-cert c":              "-tls-cert and -tls-key go together",
		"-core unix:a -tls-client-ca c":         "-tls-client-ca goes with -tls-cert",
		"-core unix:a -tls-client-auth":         "-tls-client-auth needs -tls-client-ca",
		"-core unix:a -core-key k":              "-core-cert and -core-key go together",
		"-core dns:///core.example:7000":        "a core on another host needs -core-ca",
		"-core dns:///10.0.0.1:7000":            "a core on another host needs -core-ca",
		"-core core.example:7000":               "a core on another host needs -core-ca",
		"-core ,":                               "-core names no address",
		"-core a:1,a:1 -core-insecure":          "-core: a:1 stands twice",
		"-core unix:a,core.example:7000":        "a core on another host needs -core-ca",
		"-core unix:a -log-level loud":          "unknown name",
		"-core unix:a -absent":                  "flag provided but not defined",
		"-core unix:a -request-timeout forever": "invalid value",
	} {
		var output bytes.Buffer
		if _, err := parse(strings.Fields(arguments), &output); err == nil || !strings.Contains(output.String(), want) {
			t.Errorf("%q: %v, said %q", arguments, err, output.String())
		}
	}
}

func TestSettingsThatWork(t *testing.T) {
	for _, arguments := range []string{
		"-core unix:/run/core.sock",
		"-core dns:///127.0.0.1:7000",
		"-core dns:///[::1]:7000",
		"-core localhost:7000",
		"-core unix:a,unix:b,127.0.0.1:7000",
		"-core dns:///core.example:7000 -core-insecure",
		"-core dns:///core.example:7000 -core-ca ca.pem -core-cert c.pem -core-key k.pem",
		"-core unix:a -spi 127.0.0.1:5001 -spi-public-url https://example.com -ui folder -debug 127.0.0.1:6060",
		"-core unix:a -cors-origins= -pass-headers X-A,X-B -path-prefix /m0",
	} {
		var output bytes.Buffer
		found, err := parse(strings.Fields(arguments), &output)
		if err != nil {
			t.Errorf("%q: %v", arguments, err)
			continue
		}
		if strings.Contains(arguments, "pass-headers") {
			options := found.options
			if len(options.PassHeaders) != 2 || len(options.CORS.Origins) != 0 || options.PathPrefix != "/m0" {
				t.Errorf("%+v", options)
			}
		}
	}
}
