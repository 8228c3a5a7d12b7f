package simplenet.server.frontend;

import com.google.gson.JsonObject;
import io.netty.buffer.Unpooled;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpVersion;
import java.nio.charset.StandardCharsets;

/** Responses of the frontend itself, in the form of the workers' own. */
final class Answers {
    private Answers() {}

    /** An error: `{"code", "type", "message"}`; a 503 also says when to try again. */
    static FullHttpResponse error(HttpResponseStatus status, String message) {
        JsonObject body = new JsonObject();
        body.addProperty("code", status.code());
        body.addProperty("type", status.reasonPhrase().replace(" ", ""));
        body.addProperty("message", message);
        FullHttpResponse response = json(status, body);
        if (status.equals(HttpResponseStatus.SERVICE_UNAVAILABLE)) {
            response.headers().set(HttpHeaderNames.RETRY_AFTER, Traffic.RETRY_AFTER_S);
        }
        return response;
    }

    /** An error after which the connection is closed: what a client sends next has no certain meaning. */
    static FullHttpResponse closing(HttpResponseStatus status, String message) {
        return closing(error(status, message));
    }

    static <R extends HttpResponse> R closing(R response) {
        response.headers().set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
        return response;
    }

    static FullHttpResponse json(HttpResponseStatus status, JsonObject body) {
        byte[] content = body.toString().getBytes(StandardCharsets.UTF_8);
        FullHttpResponse response =
                new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, status, Unpooled.wrappedBuffer(content));
        response.headers().set(HttpHeaderNames.CONTENT_TYPE, "application/json");
        response.headers().set(HttpHeaderNames.CONTENT_LENGTH, content.length);
        return response;
    }
}
