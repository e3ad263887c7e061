// Package certs serves with certificates from files, and with new ones when the files change.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// How often files are looked at, at most.
const lookEvery = time.Second

// Files are PEM files of a server.
type Files struct {
	Certificate string
	Key         string
	// Certificates that those of clients must descend from; empty asks for none.
	ClientCA string
	// Whether clients must show one.
	RequireClient bool
}

// Server gives the settings of a listener. They follow the files; files that cannot be used leave the former in force.
func Server(files Files) (*tls.Config, error) {
	kept := &keeper{files: files}
	if err := kept.look(time.Now()); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return kept.current(time.Now()), nil },
	}, nil
}

type stamp struct {
	written time.Time
	size    int64
}

type keeper struct {
	files  Files
	mutex  sync.Mutex
	config *tls.Config
	stamps [3]stamp
	looked time.Time
}

func (k *keeper) current(now time.Time) *tls.Config {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if now.Sub(k.looked) >= lookEvery {
		if err := k.look(now); err != nil {
			slog.Error("certificates have changed and cannot be used, the former serve", "error", err)
		}
	}
	return k.config
}

// look reads the files if one of them is another than before.
func (k *keeper) look(now time.Time) error {
	k.looked = now
	found, err := k.files.stamps()
	if err != nil || (k.config != nil && found == k.stamps) {
		return err
	}
	k.stamps = found
	made, err := k.files.read()
	if err != nil {
		return err
	}
	if k.config != nil {
		slog.Info("serving with the certificates that are there now")
	}
	k.config = made
	return nil
}

func (f Files) stamps() (found [3]stamp, err error) {
	for number, name := range []string{f.Certificate, f.Key, f.ClientCA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return found, err
		}
		found[number] = stamp{info.ModTime(), info.Size()}
	}
	return found, nil
}

func (f Files) read() (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, err
	}
	made := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}, NextProtos: []string{"h2", "http/1.1"}}
	if f.ClientCA == "" {
		return made, nil
	}
	if made.ClientCAs, err = Pool(f.ClientCA); err != nil {
		return nil, err
	}
	made.ClientAuth = tls.VerifyClientCertIfGiven
	if f.RequireClient {
		made.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return made, nil
}

// Pool reads certificates that others must descend from.
func Pool(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", name)
	}
	return pool, nil
}
