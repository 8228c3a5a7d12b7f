package simplenet.server.frontend;

import com.google.gson.JsonObject;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.QueryStringDecoder;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.security.MessageDigest;
import java.util.List;

/**
 * Between netty's aggregator and TorchServe on a connection to the management port.
 *
 * <p>Every request needs the token that the file named by the system property simplenet.token holds. Beside TorchServe's
 * own paths there are:
 *
 * <pre>
 * GET /requests                    {"in_flight", "held", "draining"}
 * GET /requests/MODEL/VERSION      {"queued", "working"}
 * PUT /drain                       from now on new requests get 503; the answer is that of GET /requests
 * PUT /health?reason=…             why /ping says 503; without a reason it says what TorchServe says
 * </pre>
 */
final class Management extends SimpleChannelInboundHandler<FullHttpRequest> {
    private static final String TOKEN_FILE = System.getProperty("simplenet.token", "");
    private static final byte[] TOKEN = token(); // read once: a cleaner may remove the file

    Management() {
        super(false); // what is not answered here is passed on
    }

    @Override
    protected void channelRead0(ChannelHandlerContext context, FullHttpRequest request) throws Exception {
        FullHttpResponse response = Malformed.refusal(request);
        if (response == null) {
            response = permitted(request) ? own(request) : refusal();
        }
        if (response == null) {
            context.fireChannelRead(request);
            return;
        }
        request.release();
        context.writeAndFlush(response);
    }

    private static byte[] token() {
        try {
            return Files.readAllBytes(Paths.get(TOKEN_FILE));
        } catch (IOException error) {
            return new byte[0]; // which permits nobody
        }
    }

    private static boolean permitted(FullHttpRequest request) {
        String given = request.headers().get(HttpHeaderNames.AUTHORIZATION, "");
        String prefix = "Bearer ";
        return TOKEN.length > 0
                && given.startsWith(prefix)
                && MessageDigest.isEqual(TOKEN, given.substring(prefix.length()).getBytes(StandardCharsets.UTF_8));
    }

    private static FullHttpResponse refusal() {
        FullHttpResponse response = Answers.error(
                HttpResponseStatus.UNAUTHORIZED,
                "Authorization: expected 'Bearer ' and the token in " + TOKEN_FILE + "; found another or none");
        response.headers().set(HttpHeaderNames.WWW_AUTHENTICATE, "Bearer");
        return response;
    }

    /** The response to a request that is not for TorchServe, else null. */
    private static FullHttpResponse own(FullHttpRequest request) throws ReflectiveOperationException {
        QueryStringDecoder address = new QueryStringDecoder(request.uri());
        String path = address.path();
        String[] parts = path.split("/");
        if (HttpMethod.PUT.equals(request.method()) && path.equals("/drain")) {
            Traffic.drain();
            return all();
        }
        if (HttpMethod.PUT.equals(request.method()) && path.equals("/health")) {
            List<String> reason = address.parameters().get("reason");
            Traffic.setUnready(reason == null ? null : reason.get(0));
            return all();
        }
        if (!HttpMethod.GET.equals(request.method()) || parts.length < 2 || !parts[1].equals("requests")) {
            return null;
        }
        if (parts.length == 2) {
            return all();
        }
        int queued = parts.length == 4 ? Queues.queued(parts[2], parts[3]) : -1;
        if (queued < 0) {
            return Answers.error(HttpResponseStatus.NOT_FOUND, "requests: there is no such model and version");
        }
        JsonObject body = new JsonObject();
        body.addProperty("queued", queued);
        body.addProperty("working", Queues.held(parts[2], parts[3]));
        return Answers.json(HttpResponseStatus.OK, body);
    }

    private static FullHttpResponse all() throws ReflectiveOperationException {
        JsonObject body = new JsonObject();
        body.addProperty("in_flight", Traffic.IN_FLIGHT.get() + Watch.receiving());
        body.addProperty("held", Queues.all());
        body.addProperty("draining", Traffic.isDraining());
        return Answers.json(HttpResponseStatus.OK, body);
    }
}
