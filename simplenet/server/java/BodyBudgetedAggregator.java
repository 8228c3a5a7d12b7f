package simplenet.server.frontend;

import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelOption;
import io.netty.channel.ChannelOutboundHandler;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.ChannelPromise;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpMessage;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaderValues;
import io.netty.handler.codec.http.HttpMessage;
import io.netty.handler.codec.http.HttpObject;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.HttpVersion;
import io.netty.handler.codec.http.LastHttpContent;
import java.net.SocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Netty's aggregator with a budget of bytes for all the bodies that the frontend holds.
 *
 * <p>A body is charged when its head arrives, a chunked one as its chunks arrive, and given back when its response is
 * written. One that the budget has no room for is answered 503 at once, and skipped as it arrives. One that is larger
 * than the whole budget is answered 413. Small bodies are not charged, so large ones never keep them out. The system
 * property simplenet.body.budget sets the budget in bytes.
 *
 * <p>The body of a client that has left waits in the queue like any other, so its connection stays open, half closed,
 * until the response is written. TorchServe drops some requests without a response; the system property
 * simplenet.body.timeout says after how many seconds such a connection is closed.
 */
public final class BodyBudgetedAggregator extends HttpObjectAggregator implements ChannelOutboundHandler {
    private static final long BUDGET = Long.getLong("simplenet.body.budget", Long.MAX_VALUE);
    private static final long TIMEOUT_S = Long.getLong("simplenet.body.timeout", 120);
    private static final long SMALL = 32 * 1024; // bytes: a row of 784 numbers in JSON has half of that
    private static final long BROKEN_S = 10; // a connection that broke has its body in the queue for a while longer
    private static final AtomicLong CHARGED = new AtomicLong();

    private final ArrayDeque<Long> waiting = new ArrayDeque<>(); // of requests that are complete, the oldest first
    private long arriving; // of the request that is being received
    private boolean refused;
    private Future<?> leaving; // closes the connection of a client that has left

    public BodyBudgetedAggregator(int maxContentLength) {
        super((int) Math.min(maxContentLength, BUDGET));
    }

    @Override
    public void handlerAdded(ChannelHandlerContext context) throws Exception {
        super.handlerAdded(context);
        context.channel().config().setOption(ChannelOption.ALLOW_HALF_CLOSURE, true);
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) throws Exception {
        if (event instanceof ChannelInputShutdownEvent) {
            giveBackArriving();
            endWithoutReset(context.channel());
            if (waiting.isEmpty()) {
                context.close();
            } else {
                leaving = context.executor().schedule(() -> context.close(), TIMEOUT_S, TimeUnit.SECONDS);
            }
        }
        super.userEventTriggered(context, event);
    }

    @Override
    protected Object newContinueResponse(HttpMessage start, int maxContentLength, ChannelPipeline pipeline) {
        if (start.decoderResult().isFailure()) {
            return null; // its Content-Length may be no number
        }
        Object response = super.newContinueResponse(start, maxContentLength, pipeline);
        boolean goOn = response instanceof HttpResponse
                && ((HttpResponse) response).status().codeClass() == HttpStatusClass.INFORMATIONAL;
        if (!goOn || chargeHead(start)) {
            return response;
        }
        return refusal(start, pipeline.channel());
    }

    @Override
    protected boolean closeAfterContinueResponse(Object response) {
        return super.closeAfterContinueResponse(response)
                || isRefusal(response) && !HttpUtil.isKeepAlive((HttpResponse) response);
    }

    @Override
    protected boolean ignoreContentAfterContinueResponse(Object response) {
        return super.ignoreContentAfterContinueResponse(response) || isRefusal(response);
    }

    @Override
    protected boolean isContentLengthInvalid(HttpMessage start, int maxContentLength) {
        if (super.isContentLengthInvalid(start, maxContentLength)) {
            return true;
        }
        refused = start.decoderResult().isSuccess() && !chargeHead(start);
        return refused;
    }

    @Override
    protected void handleOversizedMessage(ChannelHandlerContext context, HttpMessage message) throws Exception {
        giveBackArriving();
        if (!refused) {
            super.handleOversizedMessage(context, message);
            return;
        }
        refused = false;
        boolean keepAlive = HttpUtil.isKeepAlive(message);
        context.writeAndFlush(refusal(message, context.channel()))
                .addListener(keepAlive ? ChannelFutureListener.CLOSE_ON_FAILURE : ChannelFutureListener.CLOSE);
    }

    /** A body without a Content-Length is charged for what has come of it. */
    @Override
    protected void aggregate(FullHttpMessage message, HttpContent chunk) throws Exception {
        super.aggregate(message, chunk);
        long size = message.content().readableBytes();
        if (size > SMALL && size > arriving) {
            refused = !charge(size - arriving);
        }
    }

    @Override
    protected boolean isLastContentMessage(HttpContent chunk) throws Exception {
        return refused || super.isLastContentMessage(chunk);
    }

    @Override
    protected void finishAggregation(FullHttpMessage message) throws Exception {
        super.finishAggregation(message);
        if (!refused) {
            waiting.add(arriving);
            arriving = 0;
        }
    }

    @Override
    protected void decode(ChannelHandlerContext context, HttpObject message, List<Object> whole) throws Exception {
        super.decode(context, message, whole);
        if (refused) { // in its midst; netty discards the chunks that are still to come
            FullHttpMessage cut = (FullHttpMessage) whole.remove(whole.size() - 1);
            try {
                handleOversizedMessage(context, cut);
            } finally {
                cut.release();
            }
        }
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (message instanceof LastHttpContent && !waiting.isEmpty()) {
            CHARGED.addAndGet(-waiting.poll());
        }
        ChannelPromise written = promise.unvoid();
        if (leaving != null && waiting.isEmpty()) {
            written.addListener(ChannelFutureListener.CLOSE);
        }
        context.write(message, written);
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) throws Exception {
        giveBackArriving();
        if (leaving != null) {
            leaving.cancel(false);
        }
        long abandoned = waiting.stream().mapToLong(Long::longValue).sum();
        waiting.clear();
        if (abandoned > 0) {
            context.executor().schedule(() -> CHARGED.addAndGet(-abandoned), BROKEN_S, TimeUnit.SECONDS);
        }
        super.channelInactive(context);
    }

    private boolean chargeHead(HttpMessage start) {
        long size = HttpUtil.isTransferEncodingChunked(start) ? 0 : HttpUtil.getContentLength(start, 0L);
        return size <= SMALL || charge(size);
    }

    private boolean charge(long size) {
        long charged;
        do {
            charged = CHARGED.get();
            if (charged + size > BUDGET) {
                return false;
            }
        } while (!CHARGED.compareAndSet(charged, charged + size));
        arriving += size;
        return true;
    }

    private void giveBackArriving() {
        CHARGED.addAndGet(-arriving);
        arriving = 0;
    }

    /** TorchServe closes by a reset, which may overtake the response; this connection gets an ordinary end. */
    private static void endWithoutReset(Channel channel) {
        channel.config().setOption(ChannelOption.SO_LINGER, -1);
    }

    private static boolean isRefusal(Object response) {
        return ((HttpResponse) response).status().codeClass() == HttpStatusClass.SERVER_ERROR;
    }

    private static FullHttpResponse refusal(HttpMessage request, Channel channel) {
        byte[] body = ("{\n  \"code\": 503,\n  \"type\": \"ServiceUnavailableException\",\n  \"message\": "
                        + "\"expected at most " + BUDGET + " bytes of bodies at once, found more; try again\"\n}\n")
                .getBytes(StandardCharsets.UTF_8);
        FullHttpResponse response = new DefaultFullHttpResponse(
                HttpVersion.HTTP_1_1, HttpResponseStatus.SERVICE_UNAVAILABLE, Unpooled.wrappedBuffer(body));
        response.headers().set(HttpHeaderNames.CONTENT_TYPE, "application/json");
        response.headers().set(HttpHeaderNames.CONTENT_LENGTH, body.length);
        if (!HttpUtil.isKeepAlive(request)) {
            response.headers().set(HttpHeaderNames.CONNECTION, HttpHeaderValues.CLOSE);
            endWithoutReset(channel);
        }
        return response;
    }

    // What a handler of outgoing events has to have: each is passed on.

    @Override
    public void bind(ChannelHandlerContext context, SocketAddress address, ChannelPromise promise) {
        context.bind(address, promise);
    }

    @Override
    public void connect(
            ChannelHandlerContext context, SocketAddress remote, SocketAddress local, ChannelPromise promise) {
        context.connect(remote, local, promise);
    }

    @Override
    public void disconnect(ChannelHandlerContext context, ChannelPromise promise) {
        context.disconnect(promise);
    }

    @Override
    public void close(ChannelHandlerContext context, ChannelPromise promise) {
        context.close(promise);
    }

    @Override
    public void deregister(ChannelHandlerContext context, ChannelPromise promise) {
        context.deregister(promise);
    }

    @Override
    public void read(ChannelHandlerContext context) {
        context.read();
    }

    @Override
    public void flush(ChannelHandlerContext context) {
        context.flush();
    }
}
