package taxond

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Reason is the stable reason of an error of the daemon, such as INVALID_FIELDS, with what belongs to it, such as the
// nearest name there is, as suggestion. It is empty for any other error.
func Reason(err error) (reason string, metadata map[string]string) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason(), info.GetMetadata()
		}
	}
	return "", nil
}

// Violations are the fields of a request that are wrong, with their values.
func Violations(err error) []*errdetails.BadRequest_FieldViolation {
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			return request.GetFieldViolations()
		}
	}
	return nil
}
