package simplenet.server.frontend;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelOption;
import io.netty.channel.ChannelPipeline;
import io.netty.channel.ChannelPromise;
import io.netty.channel.epoll.EpollChannelOption;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.handler.codec.http.FullHttpMessage;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpContent;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpMessage;
import io.netty.handler.codec.http.HttpObject;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpUtil;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Netty's aggregator with a budget of bytes for all the bodies that the frontend holds. It is the first handler of every
 * connection, and adds the others.
 *
 * <p>A body is charged when its head arrives, a chunked one as its chunks arrive, and given back when its response is
 * written (see Charge). One that the budget has no room for is answered 503 at once, and skipped as it arrives. One that
 * is larger than the whole budget is answered 413. While the server drains, every new request is answered 503.
 *
 * <p>Netty keeps a body in the direct buffers that it was read into, each as large as a read may be however little it
 * holds: a few hundred slow clients use up the direct memory, and then nothing can be read from anybody. Here it is
 * copied into one array on the heap as it arrives; TorchServe takes that array as it is, so it costs no second copy.
 *
 * <p>A body of which nothing arrives for simplenet.body.stall seconds is answered 408. The body of a client that
 * has left waits in the queue like any other, so its connection stays open, half closed, until the response is written.
 */
public final class BodyBudgetedAggregator extends HttpObjectAggregator implements Watch.Watched {
    private static final long LEFT_S = Long.getLong("simplenet.body.timeout", 0); // 0: as long as a request may take
    private static final long PAUSE_S = 5; // a client whose upload pauses for longer does not hold up the end of the server
    // A connection that broke has its body in the queue for a while longer.
    private static final long BROKEN_S = 5 + Long.getLong("simplenet.queue.wait.ms", 10_000) / 1000;
    /** Bytes of a response in the kernel that are not sent: so few that a client which reads slowly is seen to read. */
    private static final long LITTLE = 128 * 1024;

    private static final int MOST_CONNECTIONS = Integer.getInteger("simplenet.connections", Integer.MAX_VALUE);
    private static final AtomicInteger CONNECTIONS = new AtomicInteger();

    private final Body body;
    private final Charge charge = new Charge();
    private ChannelHandlerContext context;
    private boolean predictions; // whether this is a connection to their port
    private volatile boolean evicted; // is about to be
    private volatile long progress; // when the last part of it arrived
    private boolean waits; // a request that is complete, for its response
    private FullHttpResponse refused; // the response to the request that is being received, if it is not accepted
    private boolean cut; // the connection is about to close: what still comes of a body is dropped
    private Future<?> leaving; // closes the connection of a client that has left

    public BodyBudgetedAggregator(int maxContentLength) {
        super((int) Math.min(maxContentLength, Charge.BUDGET));
        body = new Body(maxContentLength());
    }

    @Override
    public void handlerAdded(ChannelHandlerContext added) throws Exception {
        super.handlerAdded(added);
        context = added;
        Channel channel = added.channel();
        channel.config().setOption(ChannelOption.ALLOW_HALF_CLOSURE, true);
        channel.pipeline().addBefore(added.name(), "order", new InOrder(this::answered));
        predictions = Traffic.isPredictions(channel);
        if (predictions) {
            endWithoutReset(channel);
            channel.config().setOption(EpollChannelOption.TCP_NOTSENT_LOWAT, LITTLE); // Linux has it
            channel.pipeline().addAfter(added.name(), "gate", new Gate());
        } else if (Traffic.isManagement(channel)) {
            channel.pipeline().addAfter(added.name(), "management", new Management());
        }
        Watch.add(this);
    }

    @Override
    public void channelActive(ChannelHandlerContext context) throws Exception {
        super.channelActive(context);
        if (predictions && CONNECTIONS.incrementAndGet() > MOST_CONNECTIONS) {
            Watch.evictOne(); // perhaps this one
        }
    }

    @Override
    public void channelReadComplete(ChannelHandlerContext context) throws Exception {
        if (body.isOpen() && !charge.growSmall(body.capacity())) {
            end(HttpResponseStatus.SERVICE_UNAVAILABLE, "body: too many arrive at the same time; try again");
        }
        super.channelReadComplete(context);
    }

    /** Answer, whatever the client is about to send, and end the connection. */
    private void end(HttpResponseStatus status, String message) {
        endWithoutReset(context.channel());
        cut = true;
        charge.giveBackArriving();
        body.clear();
        context.writeAndFlush(Answers.closing(status, message));
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) throws Exception {
        if (event instanceof ChannelInputShutdownEvent) {
            charge.giveBackArriving();
            endWithoutReset(context.channel());
            if (body.isOpen()) {
                context.write(Answers.closing(HttpResponseStatus.BAD_REQUEST, body.toString()));
                body.clear();
            }
            if (waits) {
                long patience = LEFT_S > 0 ? LEFT_S : Traffic.longest();
                leaving = context.executor().schedule(() -> context.close(), patience, TimeUnit.SECONDS);
            } else { // a response may still be on its way
                context.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(ChannelFutureListener.CLOSE);
            }
        }
        super.userEventTriggered(context, event);
    }

    @Override
    protected Object newContinueResponse(HttpMessage start, int maxContentLength, ChannelPipeline pipeline) {
        if (start.decoderResult().isFailure()) {
            return null; // its Content-Length may be no number
        }
        String expected = start.headers().get(HttpHeaderNames.EXPECT); // the superclass removes it
        HttpResponse response = (HttpResponse) super.newContinueResponse(start, maxContentLength, pipeline);
        if (response == null) {
            return null;
        }
        FullHttpResponse refusal;
        if (response.status().equals(HttpResponseStatus.EXPECTATION_FAILED)) {
            refusal = Answers.error(response.status(), "Expect: expected 100-continue, found '" + expected + "'");
        } else if (response.status().codeClass() != HttpStatusClass.INFORMATIONAL) {
            refusal = tooLarge();
        } else if (isAccepted(start)) {
            return response;
        } else {
            refusal = refused;
            refused = null;
        }
        // A client may now send the body all the same, or not: the next bytes have no certain meaning.
        endWithoutReset(pipeline.channel());
        return Answers.closing(refusal);
    }

    @Override
    protected boolean closeAfterContinueResponse(Object response) {
        return isRefusal(response);
    }

    @Override
    protected boolean ignoreContentAfterContinueResponse(Object response) {
        return isRefusal(response);
    }

    @Override
    protected boolean isContentLengthInvalid(HttpMessage start, int maxContentLength) {
        if (super.isContentLengthInvalid(start, maxContentLength)) {
            return true;
        }
        return start.decoderResult().isSuccess() && !isAccepted(start);
    }

    @Override
    protected void handleOversizedMessage(ChannelHandlerContext context, HttpMessage message) throws Exception {
        charge.giveBackArriving();
        body.clear();
        FullHttpResponse response = refused == null ? tooLarge() : refused;
        refused = null;
        if (!HttpUtil.isKeepAlive(response)) {
            endWithoutReset(context.channel());
        }
        context.writeAndFlush(response);
    }

    private FullHttpResponse tooLarge() {
        return Answers.error(
                HttpResponseStatus.REQUEST_ENTITY_TOO_LARGE,
                "body: expected at most " + maxContentLength() + " bytes, found more");
    }

    @Override
    protected FullHttpMessage beginAggregation(HttpMessage start, ByteBuf content) throws Exception {
        if (start.decoderResult().isSuccess()) { // otherwise its length may be no number
            progress = Traffic.now();
            body.begin(lengthOf(start));
        }
        return super.beginAggregation(start, content);
    }

    /** Takes the bytes out of what netty aggregates, which then has nothing but the head and the trailer. */
    @Override
    protected void decode(ChannelHandlerContext context, HttpObject message, List<Object> whole) throws Exception {
        HttpObject emptied = message;
        if (cut && message instanceof HttpContent) {
            return;
        }
        if (message instanceof HttpContent && !(message instanceof HttpMessage) && body.isOpen()) {
            HttpContent chunk = (HttpContent) message;
            progress = Traffic.now();
            if (body.size() + chunk.content().readableBytes() > maxContentLength()) {
                refused = Answers.closing(tooLarge()); // it may never end
            } else {
                body.append(chunk.content());
            }
            emptied = chunk.replace(Unpooled.EMPTY_BUFFER);
            emptied.setDecoderResult(chunk.decoderResult()); // of a chunk that is not as HTTP has them
        }
        super.decode(context, emptied, whole);
        if (refused != null) { // in its midst; netty discards the chunks that are still to come
            FullHttpMessage cut = (FullHttpMessage) whole.remove(whole.size() - 1);
            try {
                handleOversizedMessage(context, cut);
            } finally {
                cut.release();
            }
        }
    }

    /** A body without a Content-Length is charged for its array. */
    @Override
    protected void aggregate(FullHttpMessage message, HttpContent chunk) throws Exception {
        super.aggregate(message, chunk);
        if (refused == null && !charge.grow(body.capacity())) {
            refused = overBudget();
        }
    }

    @Override
    protected boolean isLastContentMessage(HttpContent chunk) throws Exception {
        return refused != null || super.isLastContentMessage(chunk);
    }

    @Override
    protected void finishAggregation(FullHttpMessage message) throws Exception {
        if (message.content() instanceof CompositeByteBuf) { // not of a request whose head is wrong
            String type = message.headers().get(HttpHeaderNames.CONTENT_TYPE, "").toLowerCase(Locale.ROOT);
            body.moveInto(
                    (CompositeByteBuf) message.content(), type.contains("multipart") || type.contains("urlencoded"));
        }
        super.finishAggregation(message);
        if (refused == null) {
            waits = true;
            charge.complete();
        }
    }

    /** The response to a request, or its refusal, is being written. */
    private void answered(ChannelPromise written) {
        waits = false;
        charge.giveBackWaiting();
        if (leaving != null) {
            written.addListener(ChannelFutureListener.CLOSE);
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) throws Exception {
        Watch.remove(this);
        if (predictions) {
            CONNECTIONS.decrementAndGet();
        }
        charge.giveBackArriving();
        body.clear();
        if (leaving != null) {
            leaving.cancel(false);
        }
        if (waits) {
            context.executor().schedule(charge::giveBackWaiting, BROKEN_S, TimeUnit.SECONDS);
        }
        super.channelInactive(context);
    }

    @Override
    public void look() {
        if (body.isOpen() && Traffic.secondsSince(progress) > Traffic.STALL_S) {
            context.executor().execute(this::endStalled);
        }
    }

    @Override
    public boolean isReceiving() {
        return predictions && body.isOpen() && Traffic.secondsSince(progress) <= PAUSE_S;
    }

    @Override
    public long idleSince() {
        boolean pauses = predictions && !evicted && body.isOpen() && Traffic.secondsSince(progress) >= 1;
        return pauses ? progress : BUSY;
    }

    @Override
    public void evict() {
        evicted = true;
        context.executor().execute(() -> {
            evicted = false;
            if (idleSince() == BUSY) {
                Watch.evictOne(); // it has gone on: another connection
            } else {
                end(
                        HttpResponseStatus.SERVICE_UNAVAILABLE,
                        "connections: there are too many, and the body on this one paused; try again");
            }
        });
    }

    private void endStalled() {
        if (body.isOpen() && Traffic.secondsSince(progress) > Traffic.STALL_S) {
            end(HttpResponseStatus.REQUEST_TIMEOUT, "body: nothing of it arrived for " + Traffic.STALL_S + " s");
        }
    }

    /** Whether a request may be received; if not, `refused` is the response to it. */
    private boolean isAccepted(HttpMessage start) {
        if (predictions && Traffic.isDraining()) {
            refused = Answers.closing(HttpResponseStatus.SERVICE_UNAVAILABLE, "the server is stopping; try again");
            return false;
        }
        long size = lengthOf(start);
        if (size < 0) {
            refused = Answers.closing(HttpResponseStatus.BAD_REQUEST, "Content-Length: expected 0 or more, found " + size);
            return false;
        }
        if (charge.announce(size)) {
            return true;
        }
        refused = overBudget();
        return false;
    }

    /** What a head says about its body: 0 if that has no length of its own. */
    private static long lengthOf(HttpMessage start) {
        return HttpUtil.isTransferEncodingChunked(start) ? 0 : HttpUtil.getContentLength(start, 0L);
    }

    private static FullHttpResponse overBudget() {
        return Answers.error(
                HttpResponseStatus.SERVICE_UNAVAILABLE,
                "body: expected at most " + Charge.BUDGET + " bytes of bodies at once, found more; try again");
    }

    /** TorchServe closes by a reset, which may overtake the response; this connection gets an ordinary end. */
    private static void endWithoutReset(Channel channel) {
        if (channel.isOpen()) { // otherwise it has ended, whatever its handlers are still told
            channel.config().setOption(ChannelOption.SO_LINGER, -1);
        }
    }

    private static boolean isRefusal(Object response) {
        return ((HttpResponse) response).status().codeClass() != HttpStatusClass.INFORMATIONAL;
    }
}
