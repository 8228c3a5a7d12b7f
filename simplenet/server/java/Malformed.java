package simplenet.server.frontend;

import io.netty.handler.codec.TooLongFrameException;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder;

/** Requests that are not as HTTP has them: TorchServe refuses them without the cause, or fails. */
final class Malformed {
    private static final int SHOWN = 80; // characters
    private static final String NO_TARGET = "/bad-request"; // netty's, of a request whose first line it cannot read

    private Malformed() {}

    /** The response to a malformed request, null if it is well-formed. */
    static FullHttpResponse refusal(FullHttpRequest request) {
        if (request.decoderResult().isFailure()) {
            return refusal(request.decoderResult().cause(), request.uri().equals(NO_TARGET));
        }
        if (request.headers().contains(HttpHeaderNames.TRANSFER_ENCODING)) { // a chunked one has lost it by now
            return Answers.closing( // where the body ends is not known
                    HttpResponseStatus.BAD_REQUEST, "Transfer-Encoding: expected chunked, found another");
        }
        String target = request.uri();
        if (!target.startsWith("/") && !target.contains("://")) {
            return badTarget("a path that begins with /", target);
        }
        if (target.indexOf('%') >= 0) {
            try {
                QueryStringDecoder decoder = new QueryStringDecoder(target);
                decoder.path();
                decoder.parameters();
            } catch (IllegalArgumentException error) {
                return badTarget("two hexadecimal digits after each %", target);
            }
        }
        String type = request.headers().get(HttpHeaderNames.CONTENT_TYPE, "");
        if (type.regionMatches(true, 0, "multipart/", 0, "multipart/".length())) {
            try {
                HttpPostRequestDecoder.isMultipart(request);
            } catch (RuntimeException error) { // netty's, of any kind
                return Answers.error(
                        HttpResponseStatus.BAD_REQUEST, "Content-Type: expected a boundary, found '" + shown(type) + "'");
            }
        }
        return null;
    }

    /** The response where netty could not read a request, or not even the first line of it. */
    static FullHttpResponse refusal(Throwable cause, boolean isFirstLine) {
        HttpResponseStatus status = HttpResponseStatus.BAD_REQUEST;
        if (cause instanceof TooLongFrameException) {
            boolean isLine = String.valueOf(cause.getMessage()).contains("line"); // of a chunk, if it is not the first
            status = !isLine ? HttpResponseStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                    : isFirstLine ? HttpResponseStatus.REQUEST_URI_TOO_LONG
                    : HttpResponseStatus.BAD_REQUEST;
        }
        Throwable root = cause.getCause() == null ? cause : cause.getCause();
        return Answers.closing(status, "request: expected HTTP/1.1, found otherwise: " + shown(root.getMessage()));
    }

    private static FullHttpResponse badTarget(String expected, String found) {
        String message = "request target: expected " + expected + ", found '" + shown(found) + "'";
        return Answers.error(HttpResponseStatus.BAD_REQUEST, message);
    }

    private static String shown(String text) {
        return text == null || text.length() <= SHOWN ? text : text.substring(0, SHOWN) + "…";
    }
}
