package simplenet.server.frontend;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.CompositeByteBuf;
import io.netty.buffer.Unpooled;
import java.util.Arrays;

/** The body of one request as it arrives: an array on the heap that grows no faster than bytes come. */
final class Body {
    private static final int FIRST = 1024; // bytes
    private static final int FAST = 64 * 1024;
    private static final byte[] NOTHING = {};

    private final int largest;
    private byte[] bytes = NOTHING;
    private int size;
    private long announced;
    private volatile boolean open;

    /** `largest`: bytes that a body may have. */
    Body(int largest) {
        this.largest = largest;
    }

    /** A request begins; `length` is its Content-Length, or 0 if it has none. */
    void begin(long length) {
        clear();
        announced = length;
        open = true;
    }

    boolean isOpen() {
        return open;
    }

    int size() {
        return size;
    }

    /** Bytes of the array. */
    int capacity() {
        return bytes.length;
    }

    /** What has come of it and what has not. */
    @Override
    public String toString() {
        String expected = announced > 0 ? announced + " bytes" : "a last chunk";
        return "body: expected " + expected + ", found its end after " + size + " bytes";
    }

    void append(ByteBuf chunk) {
        int count = chunk.readableBytes();
        if (size + count > bytes.length) {
            boolean isAnnounced = announced >= size + count;
            // One of unknown length is charged for its array, so little of that shall be empty.
            long growth = isAnnounced || bytes.length < FAST ? 4 : 2;
            long room = Math.max(size + count, Math.max(FIRST, growth * bytes.length));
            long most = isAnnounced ? announced : largest;
            bytes = Arrays.copyOf(bytes, (int) Math.max(size + count, Math.min(room, most)));
        }
        chunk.getBytes(chunk.readerIndex(), bytes, size, count);
        size += count;
    }

    /**
     * The body becomes the only component of `content`. TorchServe takes the whole array of a buffer that shows one: this
     * one has no byte more. But the fields of a form are slices of it, each of which would be taken for all of it: a form
     * shows no array, and TorchServe copies each field.
     */
    void moveInto(CompositeByteBuf content, boolean isForm) {
        if (size > 0) {
            ByteBuf whole = Unpooled.wrappedBuffer(bytes.length == size ? bytes : Arrays.copyOf(bytes, size));
            content.addComponent(true, isForm ? whole.asReadOnly() : whole);
        }
        clear();
    }

    void clear() {
        bytes = NOTHING;
        size = 0;
        open = false;
    }
}
