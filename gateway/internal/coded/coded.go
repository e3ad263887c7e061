// Package coded gives the gateway's failures FireFly's form: a code, a text and an HTTP status.
//
// The core's errors arrive with all three; this package reads them. Its own table holds only what the gateway itself can
// find wrong; texts and statuses are those of the core's catalogue, which a test compares.
package coded

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

// Codes of what the gateway itself can find wrong, and Initializing, which it must recognise.
const (
	NotFound          = "FF10109"
	MultipartInput    = "FF00161"
	ContentType       = "FF00162"
	FieldAfterFile    = "FF00163"
	TimedOut          = "FF00166"
	Unauthorized      = "FF00169"
	Forbidden         = "FF00170"
	InvalidData       = "FF10176"
	UnknownAction     = "FF10177"
	Initializing      = "FF10441"
	InvalidJSON       = fireflyjson.CodeInvalidJSON
	FieldValue        = fireflyjson.CodeFieldValue
	MethodNotAllowed  = "FF19003"
	BodyTooLarge      = "FF19004"
	UploadBroken      = "FF19007"
	TooManyOpen       = "FF19009"
	ShuttingDown      = "FF19011"
	CoreUnreachable   = "FF19014"
	internal          = "FF19000"
	errorDomain       = "photinus"
	statusMetadataKey = "http_status"
	challengeKey      = "www_authenticate"
)

type entry struct {
	status int
	text   string
}

var catalogue = map[string]entry{
	NotFound:         {404, "Not found"},
	MultipartInput:   {400, "Error reading multi-part form input: %s"},
	ContentType:      {415, "Invalid content type '%s'"},
	FieldAfterFile:   {400, "Additional form field sent after file in multi-part form (ignored): '%s'"},
	TimedOut:         {408, "The request with id '%s' timed out after %.2fms"},
	Unauthorized:     {401, "Unauthorized"},
	Forbidden:        {403, "Forbidden"},
	InvalidData:      {400, "Invalid data: %s"},
	UnknownAction:    {400, "Unknown action '%s'"},
	InvalidJSON:      {400, "The request body is not valid JSON: %s"},
	FieldValue:       {400, "Field '%s': %s"},
	MethodNotAllowed: {405, "Method %s is not allowed here; allowed: %s"},
	BodyTooLarge:     {413, "The request body is larger than %d bytes"},
	UploadBroken:     {400, "The upload broke off after %d bytes; nothing was stored"},
	TooManyOpen:      {429, "This member already has %d open %s, the most it allows"},
	ShuttingDown:     {503, "This replica is shutting down; try another, or try again"},
	CoreUnreachable:  {503, "The core cannot be reached: %s"},
	internal:         {500, "This should not happen: %s. Please report it with the log"},
}

// Error is a failure as a REST client sees it.
type Error struct {
	Status int
	// Text begins with the code.
	Text string
	// How a client can prove itself; empty where that is not what is missing.
	Challenge string
}

func (e *Error) Error() string { return e.Text }

// Numbers are written with thousands separators, as FireFly does.
var printer = message.NewPrinter(language.English)

// New makes an error of the gateway's own.
func New(code string, args ...any) *Error {
	found := catalogue[code]
	return &Error{Status: found.status, Text: code + ": " + printer.Sprintf(found.text, args...)}
}

// Because makes a refusal, with a reason behind its text.
func Because(code, reason string) *Error {
	made := New(code)
	made.Text += ": " + reason
	return made
}

var codePattern = regexp.MustCompile(`^(FF\d{5}): `)

// From makes of any error what the client is told.
func From(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var unreadable *fireflyjson.Error
	if errors.As(err, &unreadable) {
		return &Error{Status: http.StatusBadRequest, Text: unreadable.Error()}
	}
	answered, isStatus := status.FromError(err)
	if !isStatus {
		return New(internal, err)
	}
	if info := infoOf(answered); info != nil {
		if code, err := strconv.Atoi(info.GetMetadata()[statusMetadataKey]); err == nil && code >= 400 && code < 600 {
			return &Error{code, answered.Message(), info.GetMetadata()[challengeKey]}
		}
	}
	return fromPlainStatus(answered)
}

// Is says whether the core answered with a certain code.
func Is(err error, code string) bool {
	return err != nil && infoOf(status.Convert(err)).GetReason() == code
}

// infoOf is what the core attached to a failure; nil where it did not come from there.
func infoOf(answered *status.Status) *errdetails.ErrorInfo {
	for _, detail := range answered.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info
		}
	}
	return nil
}

// fromPlainStatus handles what the core did not send: errors of the generated handlers and of the connection.
func fromPlainStatus(answered *status.Status) *Error {
	text := answered.Message()
	if found := codePattern.FindStringSubmatch(text); found != nil {
		if known, ok := catalogue[found[1]]; ok {
			return &Error{Status: known.status, Text: text}
		}
	}
	switch answered.Code() {
	case codes.Unavailable, codes.Canceled:
		return New(CoreUnreachable, text)
	case codes.InvalidArgument:
		return New(FieldValue, "path", text)
	case codes.ResourceExhausted:
		return &Error{Status: http.StatusRequestEntityTooLarge, Text: BodyTooLarge + ": " + text}
	}
	return New(internal, answered.Code().String()+": "+text)
}

// IsDeadline says whether the time of a request was up.
func IsDeadline(ctx context.Context, err error) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// Write answers a request with an error.
func Write(w http.ResponseWriter, failure *Error) {
	body, err := json.Marshal(map[string]string{"error": failure.Text})
	if err != nil {
		http.Error(w, http.StatusText(failure.Status), failure.Status)
		return
	}
	if failure.Challenge != "" {
		w.Header().Set("WWW-Authenticate", failure.Challenge)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(failure.Status)
	_, _ = w.Write(append(body, '\n'))
}
