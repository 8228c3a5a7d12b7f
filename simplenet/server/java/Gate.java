package simplenet.server.frontend;

import com.google.gson.JsonParser;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelOutboundBuffer;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.DecoderException;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.ReferenceCountUtil;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * Between netty's aggregator and TorchServe on a connection to the port of predictions.
 *
 * <p>It counts the requests in flight, says at /ping whether the server is ready, gives TorchServe's own errors the
 * status that tells a client whether to try again, and keeps the connection open after an error: TorchServe closes it
 * by a reset, which may overtake the response.
 */
final class Gate extends ChannelDuplexHandler implements Watch.Watched {
    private static final long SMALL = 32 * 1024; // bytes: smaller responses are not counted
    private static final int LARGEST_OWN_ERROR = 4096; // bytes; TorchServe's errors have a few hundred
    /** What TorchServe raises, and answers 500, for a form or a path that it cannot parse. */
    private static final List<String> UNREADABLE = List.of(
            "\"type\": \"StringIndexOutOfBoundsException\"",
            "\"type\": \"ArrayIndexOutOfBoundsException\"",
            "\"type\": \"ErrorDataDecoderException\"");

    private final ChannelFutureListener written = future -> answered();
    private ChannelHandlerContext context;
    private volatile int open; // requests whose response is not written yet; only the event loop changes it
    private volatile long since; // the first of them came, or the one before it was answered

    @Override
    public void handlerAdded(ChannelHandlerContext added) {
        context = added;
        Watch.add(this);
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) throws Exception {
        Watch.remove(this);
        Traffic.IN_FLIGHT.addAndGet(-open);
        open = 0;
        super.channelInactive(context);
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) throws Exception {
        if (message instanceof FullHttpRequest) {
            FullHttpRequest request = (FullHttpRequest) message;
            FullHttpResponse refusal = refusal(request);
            if (refusal != null) {
                ReferenceCountUtil.release(message);
                context.writeAndFlush(refusal);
                return;
            }
            if (open == 0) {
                since = Traffic.now();
            }
            open++;
            Traffic.IN_FLIGHT.incrementAndGet();
        }
        super.channelRead(context, message);
    }

    /** What netty could not read, and threw. */
    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) throws Exception {
        if (cause instanceof DecoderException && open == 0) {
            context.writeAndFlush(Malformed.refusal(cause, false)).addListener(ChannelFutureListener.CLOSE);
        } else {
            super.exceptionCaught(context, cause);
        }
    }

    /** The response to a request that TorchServe need not see, else null. */
    private static FullHttpResponse refusal(FullHttpRequest request) {
        String unready = Traffic.unready();
        if (unready != null && request.uri().startsWith("/ping")) {
            return Answers.error(HttpResponseStatus.SERVICE_UNAVAILABLE, "not ready: " + unready);
        }
        return Malformed.refusal(request);
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (!(message instanceof LastHttpContent)) {
            context.write(message, promise);
            return;
        }
        if (message instanceof FullHttpResponse && ((HttpResponse) message).status().code() >= 400) {
            // TorchServe closes the connection when its promise is kept: another takes its place.
            promise = context.newPromise();
            message = corrected((FullHttpResponse) message);
        }
        long size = message instanceof FullHttpResponse ? ((FullHttpResponse) message).content().readableBytes() : 0;
        if (size > SMALL && Traffic.UNSENT.addAndGet(size) > Traffic.MOST_UNSENT) {
            Traffic.UNSENT.addAndGet(-size);
            ReferenceCountUtil.release(message);
            message = Answers.error(
                    HttpResponseStatus.SERVICE_UNAVAILABLE, "response: too many large ones are not read; try again");
            size = 0;
        }
        promise = promise.unvoid();
        if (size > SMALL) {
            long sent = size;
            promise.addListener(future -> Traffic.UNSENT.addAndGet(-sent));
        }
        promise.addListener(written);
        context.write(message, promise);
    }

    @Override
    public void look() {
        if (open > 0 && Traffic.secondsSince(since) > Traffic.longest()) {
            context.executor().execute(this::endSilence);
        }
    }

    /** TorchServe drops some requests. */
    private void endSilence() {
        ChannelOutboundBuffer pending = context.channel().unsafe().outboundBuffer();
        boolean isLost = open > 0 && Traffic.secondsSince(since) > Traffic.longest();
        if (isLost && pending != null && pending.totalPendingWriteBytes() == 0) {
            since = Traffic.now();
            context.writeAndFlush(Answers.closing(
                    HttpResponseStatus.SERVICE_UNAVAILABLE, "the request was lost in the server; try again"));
        }
    }

    private void answered() {
        if (open > 0) { // not after the connection has ended
            open--;
            since = Traffic.now();
            Traffic.IN_FLIGHT.decrementAndGet();
        }
    }

    /** An error of TorchServe itself with the status and words of ours; one of a worker as it is. */
    private FullHttpResponse corrected(FullHttpResponse response) {
        FullHttpResponse corrected = inOurWords(response);
        boolean closes = corrected != null && !HttpUtil.isKeepAlive(corrected);
        if (corrected == null) {
            corrected = response;
        } else {
            response.headers().remove(HttpHeaderNames.CONTENT_LENGTH);
            response.headers().remove(HttpHeaderNames.CONTENT_TYPE);
            corrected.headers().add(response.headers()); // among them the id of the request
            response.release();
        }
        HttpHeaders headers = corrected.headers();
        if (corrected.status().equals(HttpResponseStatus.SERVICE_UNAVAILABLE)) {
            headers.set(HttpHeaderNames.RETRY_AFTER, Traffic.RETRY_AFTER_S);
        }
        headers.set(HttpHeaderNames.CONNECTION, closes ? HttpHeaderValues.CLOSE : HttpHeaderValues.KEEP_ALIVE);
        return corrected;
    }

    /** What an error of TorchServe itself should have said; null for one of a worker, or one that is right. */
    private static FullHttpResponse inOurWords(FullHttpResponse response) {
        int code = response.status().code();
        if (code < 500 && code != 403 || response.content().readableBytes() > LARGEST_OWN_ERROR) {
            return null;
        }
        String body = response.content().toString(StandardCharsets.UTF_8);
        if (code == 403 || UNREADABLE.stream().anyMatch(body::contains)) {
            return Answers.error(
                    HttpResponseStatus.BAD_REQUEST, "request: expected a form and a path as HTTP has them, found others");
        }
        if (body.contains("\"type\": \"ServiceUnavailableException\"")) {
            String reason = Queues.hasNoWorkers(messageOf(body)) ? "model: it has no workers" : "queue: it is full";
            return Answers.error(HttpResponseStatus.SERVICE_UNAVAILABLE, reason + "; try again");
        }
        boolean isInternal = body.contains("\"type\": \"InternalServerException\"");
        if (code == 507 && !isInternal || body.contains("OutOfDirectMemoryError\"")) {
            return Answers.error(
                    HttpResponseStatus.SERVICE_UNAVAILABLE, "the frontend is out of memory; try again");
        }
        return isInternal ? ofWorker(code, body) : null;
    }

    /**
     * The response to a request whose worker is no more. TorchServe may answer it once more, from two threads; on a
     * connection that lasts, that would be the response to the next request.
     */
    private static FullHttpResponse ofWorker(int code, String body) {
        String message = null;
        if (code == 507 || body.contains("Worker died.")) {
            message = "the worker that held the request died; try again";
        } else if (body.contains("Worker scaled down.")) {
            message = "the worker that held the request was stopped; try again";
        } else if (code == 503) {
            return Answers.error(HttpResponseStatus.SERVICE_UNAVAILABLE, messageOf(body)); // of Queues
        }
        return message == null ? null : Answers.closing(HttpResponseStatus.SERVICE_UNAVAILABLE, message);
    }

    private static String messageOf(String body) {
        return JsonParser.parseString(body).getAsJsonObject().get("message").getAsString();
    }
}
