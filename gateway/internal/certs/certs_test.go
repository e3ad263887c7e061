package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// write makes a certificate that signs itself, as files, with the given name in it.
func write(t *testing.T, folder, file, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(folder, file+".pem"), filepath.Join(folder, file+".key")
	put(t, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}))
	put(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}))
	return certificate, key
}

func put(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// served gives the name in the certificate that a server shows; client is what the client shows.
func served(t *testing.T, config *tls.Config, client ...tls.Certificate) (string, error) {
	t.Helper()
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server := tls.Server(far, config)
		if server.Handshake() == nil {
			_, _ = server.Write([]byte("x"))
		}
		_ = far.Close()
	}()
	conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, Certificates: client}) // the certificate is looked at below
	text, err := io.ReadAll(io.LimitReader(conn, 1))
	_ = near.Close()
	<-ended
	if err != nil || len(text) == 0 {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestRenewedCertificatesAreServed(t *testing.T) {
	folder := t.TempDir()
	certificate, key := write(t, folder, "own", "first")
	kept := &keeper{files: Files{Certificate: certificate, Key: key}}
	now := time.Now()
	if err := kept.look(now); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		now = now.Add(lookEvery)
		if name, err := served(t, kept.current(now)); name != want {
			t.Errorf("served %q, %v; want %q", name, err, want)
		}
	}
	expect("first")
	write(t, folder, "own", "second, which is longer")
	expect("second, which is longer")
	put(t, key, []byte("half a fi"))
	expect("second, which is longer")
	if err := os.Remove(certificate); err != nil {
		t.Fatal(err)
	}
	expect("second, which is longer")
	write(t, folder, "own", "third")
	expect("third")
}

func TestClientsShowTheirs(t *testing.T) {
	folder := t.TempDir()
	certificate, key := write(t, folder, "own", "server")
	ca, clientKey := write(t, folder, "client", "client")
	other, otherKey := write(t, folder, "other", "other")
	known, err := tls.LoadX509KeyPair(ca, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := tls.LoadX509KeyPair(other, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, required := range []bool{false, true} {
		config, err := Server(Files{certificate, key, ca, required})
		if err != nil {
			t.Fatal(err)
		}
		if name, err := served(t, config, known); name != "server" {
			t.Error(required, err)
		}
		if name, _ := served(t, config); (name == "server") == required {
			t.Error(required, "without a certificate:", name)
		}
	}
	config, err := Server(Files{certificate, key, ca, true})
	if err != nil {
		t.Fatal(err)
	}
	if name, _ := served(t, config, stranger); name != "" {
		t.Error("a stranger was served")
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	folder := t.TempDir()
	certificate, key := write(t, folder, "own", "server")
	_, otherKey := write(t, folder, "other", "other")
	for _, files := range []Files{
		{Certificate: certificate, Key: otherKey},
		{Certificate: filepath.Join(folder, "absent"), Key: key},
		{Certificate: certificate, Key: key, ClientCA: key},
		{Certificate: certificate, Key: key, ClientCA: filepath.Join(folder, "absent")},
	} {
		if _, err := Server(files); err == nil {
			t.Errorf("%+v", files)
		}
	}
}
