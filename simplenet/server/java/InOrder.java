package simplenet.server.frontend;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelOutboundBuffer;
import io.netty.channel.ChannelPromise;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.channel.socket.DuplexChannel;
import io.netty.handler.codec.http.HttpObject;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.ReferenceCountUtil;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * One request of a connection at a time, and one response to each: what a client sends before the response to its
 * last request has left (HTTP pipelining) waits here.
 *
 * <p>TorchServe answers in the order in which its workers finish, but a client takes the responses for those to its
 * requests in order, RFC 9112, section 9.3.2. What waits is one read of the socket at most: no more is read meanwhile.
 * Whether the connection lasts is decided here too: not if the request or the response says "Connection: close".
 */
final class InOrder extends ChannelDuplexHandler implements Watch.Watched {
    /** Written past netty's encoder, which would take it for the response to the request. */
    private static final ByteBuf CONTINUE = Unpooled.unreleasableBuffer(
            Unpooled.copiedBuffer("HTTP/1.1 100 Continue\r\n\r\n", StandardCharsets.US_ASCII));

    private enum Exchange {
        NONE, // no request was passed on, or its response has left
        REQUESTED,
        ANSWERED // the response was written, and has not yet left
    }

    private final ArrayDeque<Object> waiting = new ArrayDeque<>(); // parts of requests, and events between them
    private final ChannelFutureListener left = future -> left(future.isSuccess());
    private final Consumer<ChannelPromise> answered;
    private ChannelHandlerContext context;
    private Exchange exchange = Exchange.NONE;
    private boolean lasts; // the connection, as far as the request is concerned
    private boolean inRequest; // its last part has not come
    private boolean broken; // netty can read no more requests from this connection
    private boolean received; // bytes that may begin a head, in this read of the socket
    private boolean read; // a part of a request, in this read
    private boolean predictions; // whether this is a connection to their port
    private boolean used; // whether a request has come
    private boolean lingers; // it is closed but for what the client still sends
    private long unread; // bytes of the response, at the last look
    private volatile long idleSince = BUSY; // when the last response left, on a connection to the predictions
    private volatile long headSince; // when the first part of a head came whose rest has not; 0: there is none
    private volatile long skippedSince; // when the last part of a body came that was refused; 0: there is none
    private volatile long unreadSince; // when the client last took some of the response; 0: there is none

    /** `answered` is called with each response, before its last part is written. */
    InOrder(Consumer<ChannelPromise> answered) {
        this.answered = answered;
    }

    @Override
    public void handlerAdded(ChannelHandlerContext added) {
        context = added;
        added.pipeline().addFirst("bytes", new ChannelInboundHandlerAdapter() {
            @Override
            public void channelRead(ChannelHandlerContext first, Object bytes) throws Exception {
                if (lingers) {
                    ReferenceCountUtil.release(bytes);
                    return;
                }
                // Reads of nothing, and empty lines between requests, begin no head.
                if (exchange == Exchange.NONE && !inRequest && !received) {
                    received = ((ByteBuf) bytes).forEachByte(b -> b >= 0 && b <= ' ') >= 0;
                }
                super.channelRead(first, bytes);
            }
        });
        Watch.add(this);
    }

    @Override
    public void channelActive(ChannelHandlerContext context) throws Exception {
        predictions = Traffic.isPredictions(context.channel());
        idleSince = predictions ? Traffic.now() : BUSY;
        super.channelActive(context);
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) throws Exception {
        Watch.remove(this);
        dropWaiting();
        super.channelInactive(context);
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object part) throws Exception {
        read = true;
        headSince = 0;
        if (lingers) {
            ReferenceCountUtil.release(part);
        } else if (waiting.isEmpty() && mayPass(part)) {
            pass(part);
        } else {
            hold(part);
        }
    }

    @Override
    public void channelReadComplete(ChannelHandlerContext context) throws Exception {
        if (received && !read && !inRequest && exchange == Exchange.NONE && headSince == 0) {
            headSince = Traffic.now();
        }
        received = read = false;
        super.channelReadComplete(context);
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) throws Exception {
        if (lingers) {
            if (event instanceof ChannelInputShutdownEvent) {
                context.close();
            }
        } else if (waiting.isEmpty()) {
            context.fireUserEventTriggered(event);
        } else { // the client has no more to send, but waits for the responses
            hold(new Event(event));
        }
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (!(message instanceof LastHttpContent)) {
            context.write(message, promise);
        } else if (isInterim(message)) {
            ReferenceCountUtil.release(message);
            context.pipeline().context(HttpServerCodec.class).write(CONTINUE.duplicate(), promise);
        } else {
            answer(message, promise.unvoid());
        }
    }

    /** A client that is still sending would not read its response if the connection was reset (RFC 9112, section 9.6). */
    @Override
    public void close(ChannelHandlerContext context, ChannelPromise promise) {
        if (!(inRequest || broken) || !context.channel().isActive()) {
            context.close(promise);
            return;
        }
        ChannelPromise closed = promise.unvoid();
        context.channel().closeFuture().addListener(future -> closed.trySuccess());
        if (!lingers) {
            lingers = true;
            dropWaiting();
            ((DuplexChannel) context.channel()).shutdownOutput();
            context.channel().config().setAutoRead(true);
            context.executor().schedule(() -> context.close(), Traffic.STALL_S, TimeUnit.SECONDS);
        }
    }

    @Override
    public void look() {
        if (isOver(headSince)) {
            context.executor().execute(this::endHead);
        } else if (isOver(skippedSince)) {
            context.executor().execute(this::endSkipped);
        } else if (unreadSince != 0 && Traffic.secondsSince(unreadSince) >= 1) {
            context.executor().execute(this::endUnread);
        }
    }

    private static boolean isOver(long since) {
        return since != 0 && Traffic.secondsSince(since) > Traffic.STALL_S;
    }

    @Override
    public long idleSince() {
        return idleSince;
    }

    @Override
    public void evict() {
        idleSince = BUSY;
        context.executor().execute(() -> {
            if (exchange != Exchange.NONE || !waiting.isEmpty()) {
                Watch.evictOne(); // a request has come meanwhile: another connection
            } else if (used && headSince == 0) {
                context.close(); // as any server ends an idle connection
            } else {
                end(HttpResponseStatus.SERVICE_UNAVAILABLE, "connections: there are too many; try again");
            }
        });
    }

    private void endHead() {
        if (isOver(headSince)) {
            headSince = 0;
            end(HttpResponseStatus.REQUEST_TIMEOUT, "headers: expected their end within " + Traffic.STALL_S + " s");
        }
    }

    private void endSkipped() {
        if (isOver(skippedSince)) {
            context.close();
        }
    }

    /** A client that has not read a byte of its response for a while loses its connection. */
    private void endUnread() {
        ChannelOutboundBuffer pending = context.channel().unsafe().outboundBuffer();
        if (unreadSince == 0 || pending == null) {
            return;
        }
        long left = pending.totalPendingWriteBytes() - pending.currentProgress();
        if (left != unread) {
            unread = left;
            unreadSince = Traffic.now();
        } else if (isOver(unreadSince)) {
            context.close();
        }
    }

    private void end(HttpResponseStatus status, String message) {
        answer(Answers.closing(status, message), context.newPromise());
        context.flush();
    }

    /** Write the last part of a response, which may be all of it. */
    private void answer(Object message, ChannelPromise promise) {
        boolean closes = message instanceof HttpResponse && !HttpUtil.isKeepAlive((HttpResponse) message) || broken;
        // TorchServe may answer twice if it fails in between; only a response that ends the connection needs no request.
        if (exchange == Exchange.ANSWERED || exchange == Exchange.NONE && !closes) {
            ReferenceCountUtil.release(message);
            promise.trySuccess();
            return;
        }
        exchange = Exchange.ANSWERED;
        unread = -1;
        unreadSince = Traffic.now();
        answered.accept(promise);
        if (closes || !lasts) {
            if (message instanceof HttpResponse) {
                Answers.closing((HttpResponse) message);
            }
            promise.addListener(ChannelFutureListener.CLOSE);
        }
        promise.addListener(left);
        context.write(message, promise);
    }

    private void left(boolean isWritten) {
        exchange = Exchange.NONE;
        unreadSince = 0;
        if (!isWritten) { // for want of memory, say: the client must not wait for it
            context.close();
        } else if (broken) {
            context.channel().close();
        }
        beIdle();
        if (!waiting.isEmpty()) { // not from within the write, which a request may have called
            context.executor().execute(this::passWaiting);
        }
    }

    private void beIdle() {
        if (exchange == Exchange.NONE && context.channel().isActive()) {
            idleSince = predictions ? Traffic.now() : BUSY;
            skippedSince = inRequest ? Traffic.now() : 0;
        }
    }

    private void hold(Object part) {
        waiting.add(part);
        context.channel().config().setAutoRead(false);
    }

    private void passWaiting() {
        if (waiting.isEmpty() || !context.channel().isActive()) {
            return;
        }
        while (!waiting.isEmpty() && mayPass(waiting.peek())) {
            pass(waiting.poll());
        }
        if (waiting.isEmpty()) {
            context.channel().config().setAutoRead(true);
        }
    }

    private void dropWaiting() {
        waiting.forEach(ReferenceCountUtil::release);
        waiting.clear();
    }

    private boolean mayPass(Object part) {
        return exchange == Exchange.NONE || !(part instanceof HttpRequest);
    }

    private void pass(Object part) {
        if (part instanceof Event) {
            context.fireUserEventTriggered(((Event) part).event);
            return;
        }
        if (part instanceof HttpRequest) {
            HttpRequest request = (HttpRequest) part;
            exchange = Exchange.REQUESTED;
            idleSince = BUSY;
            used = inRequest = true;
            lasts = request.decoderResult().isSuccess() && HttpUtil.isKeepAlive(request);
        }
        if (part instanceof HttpObject && ((HttpObject) part).decoderResult().isFailure()) {
            broken = true;
        }
        boolean isLast = part instanceof LastHttpContent;
        inRequest &= !isLast;
        context.fireChannelRead(part);
        if (isLast) {
            if (broken && exchange == Exchange.NONE) { // it was refused before
                context.channel().close();
            }
            beIdle();
        } else if (skippedSince != 0) {
            skippedSince = Traffic.now();
        }
    }

    private static boolean isInterim(Object message) { // 100 Continue
        return message instanceof HttpResponse
                && ((HttpResponse) message).status().codeClass() == HttpStatusClass.INFORMATIONAL;
    }

    private static final class Event {
        final Object event;

        Event(Object event) {
            this.event = event;
        }
    }
}
