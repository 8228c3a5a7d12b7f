package simplenet.server.frontend;

import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import io.netty.handler.codec.http.HttpStatusClass;
import io.netty.handler.codec.http.LastHttpContent;
import io.netty.util.ReferenceCountUtil;
import java.util.ArrayDeque;
import java.util.function.Consumer;

/**
 * One request of a connection at a time: what a client sends before it has its response (HTTP pipelining) waits here.
 *
 * <p>TorchServe answers in the order in which its workers finish, but a client takes the responses for those to its
 * requests in order, RFC 9112, section 9.3.2. What waits is one read of the socket at most: no more is read meanwhile.
 */
final class InOrder extends ChannelDuplexHandler {
    private final ArrayDeque<Object> waiting = new ArrayDeque<>(); // parts of requests, and events between them
    private final Consumer<ChannelPromise> answered;
    private boolean unanswered; // a request was passed on whose response was not yet written

    /** `answered` is called with each response, when its last part is written. */
    InOrder(Consumer<ChannelPromise> answered) {
        this.answered = answered;
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object part) throws Exception {
        if (waiting.isEmpty() && mayPass(part)) {
            pass(context, part);
        } else {
            hold(context, part);
        }
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) throws Exception {
        if (waiting.isEmpty()) {
            context.fireUserEventTriggered(event);
        } else { // the client has no more to send, but waits for the responses
            hold(context, new Event(event));
        }
    }

    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
        if (!(message instanceof LastHttpContent) || isInterim(message)) {
            context.write(message, promise);
            return;
        }
        ChannelPromise written = promise.unvoid();
        context.write(message, written);
        answered.accept(written);
        if (unanswered) {
            unanswered = false;
            if (!waiting.isEmpty()) { // not from within the write, which a request may have called
                context.executor().execute(() -> passWaiting(context));
            }
        }
    }

    @Override
    public void channelInactive(ChannelHandlerContext context) throws Exception {
        waiting.forEach(ReferenceCountUtil::release);
        waiting.clear();
        super.channelInactive(context);
    }

    private void hold(ChannelHandlerContext context, Object part) {
        waiting.add(part);
        context.channel().config().setAutoRead(false);
    }

    private void passWaiting(ChannelHandlerContext context) {
        if (waiting.isEmpty()) {
            return; // the connection has ended
        }
        while (!waiting.isEmpty() && mayPass(waiting.peek())) {
            pass(context, waiting.poll());
        }
        if (waiting.isEmpty()) {
            context.channel().config().setAutoRead(true);
        }
    }

    private boolean mayPass(Object part) {
        return !unanswered || !(part instanceof HttpRequest);
    }

    private void pass(ChannelHandlerContext context, Object part) {
        if (part instanceof Event) {
            context.fireUserEventTriggered(((Event) part).event);
            return;
        }
        unanswered = unanswered || part instanceof HttpRequest;
        context.fireChannelRead(part);
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
