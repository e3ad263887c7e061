package apidocs

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/photinus-project/photinus/gateway/internal/coded"
)

const (
	smallIcon = 16
	largeIcon = 32
	// Points looked at for each side of a pixel, which smooths the edges.
	iconSamples = 4
)

var (
	faviconPath = regexp.MustCompile(`^/favicon[^/]*\.png$`)
	iconNight   = color.NRGBA{R: 0x1b, G: 0x26, B: 0x3b, A: 0xff}
	iconGlow    = color.NRGBA{R: 0xd9, G: 0xe0, B: 0x4a, A: 0xff}
	icons       = map[int]func() []byte{
		smallIcon: sync.OnceValue(func() []byte { return drawIcon(smallIcon) }),
		largeIcon: sync.OnceValue(func() []byte { return drawIcon(largeIcon) }),
	}
)

// ServeFavicon answers when the request is for the logo, of 16 or 32 pixels, and says whether it was.
func ServeFavicon(w http.ResponseWriter, r *http.Request) bool {
	if !faviconPath.MatchString(r.URL.Path) {
		return false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		coded.Write(w, coded.New(coded.MethodNotAllowed, r.Method, "GET, HEAD"))
		return true
	}
	size := largeIcon
	if strings.Contains(r.URL.Path, "16") {
		size = smallIcon
	}
	w.Header().Set("Content-Type", "image/png")
	w.Header().Set("Cache-Control", assetsCaching)
	_, _ = w.Write(icons[size]())
	return true
}

// drawIcon makes the logo: a light at night.
func drawIcon(size int) []byte {
	drawn := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			drawn.SetNRGBA(x, y, iconPixel(x, y, size))
		}
	}
	var out bytes.Buffer
	_ = png.Encode(&out, drawn) // fails with its writer only
	return out.Bytes()
}

func iconPixel(x, y, size int) color.NRGBA {
	inside, glow := 0.0, 0.0
	for i := range iconSamples * iconSamples {
		at := func(pixel, step int) float64 {
			return (float64(pixel)+(float64(step)+0.5)/iconSamples)/float64(size)*2 - 1
		}
		distance := math.Hypot(at(x, i%iconSamples), at(y, i/iconSamples))
		if distance <= 1 {
			inside++
			glow += math.Min(1, math.Max(0, (0.75-distance)/0.4))
		}
	}
	if inside == 0 {
		return color.NRGBA{}
	}
	mix := func(dark, light uint8) uint8 {
		return uint8(math.Round(float64(dark) + (float64(light)-float64(dark))*glow/inside))
	}
	return color.NRGBA{
		R: mix(iconNight.R, iconGlow.R), G: mix(iconNight.G, iconGlow.G), B: mix(iconNight.B, iconGlow.B),
		A: uint8(math.Round(255 * inside / (iconSamples * iconSamples))),
	}
}
